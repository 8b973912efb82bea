"""`faceattr status`: what a run folder says, with no cluster."""

import time
from dataclasses import dataclass, field

import tyro

from faceattr.config import StorageConfig
from faceattr.data.run_status import RunStatus, read_run_status
from faceattr.data.storage import StorageOptions, open_store


@dataclass(frozen=True, kw_only=True)
class Status:
    """Prints what a run folder says: state, rows, rate, rejects, versions. Needs no cluster and changes nothing."""

    run: tyro.conf.Positional[str]
    """Run folder: a local path or s3://bucket/prefix."""
    rejects: bool = False
    """Count the rejected rows of an unpublished run however many shards there are; reads a column of each."""
    storage: StorageConfig = field(default_factory=StorageConfig)

    def __call__(self) -> int:
        """Prints the status."""
        options = StorageOptions(endpoint_url=self.storage.endpoint_url, deadline_s=self.storage.deadline_s)
        store = open_store(self.run, options)
        most = 2**31 if self.rejects else 64
        print(describe_status(store.uri, read_run_status(store, storage=options, count_rejects_in=most)))
        return 0


def describe_status(uri: str, status: RunStatus) -> str:
    """The status as text."""
    driver = f" by process {status.driver['pid']} on {status.driver['host']}" if status.driver else ""
    lines = [f"run        {uri}", f"kind       {status.kind or '?'}", f"state      {status.state}{driver}"]
    if status.num_rows is not None:
        share = status.num_committed / status.num_rows
        lines.append(
            f"rows       {status.num_committed:,} of {status.num_rows:,} ({share:.1%}) in {status.num_shards:,} shards"
        )
    if status.rate is not None:
        lines.append(f"rate       {status.rate:,.1f} rows/s")
    for started, rows in status.sessions:
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started))
        lines.append(f"session    {when} {rows:,} rows")
    if status.num_rows is not None:
        lines.append(f"rejected   {_describe_rejects(status.rejects)}")
    if status.metrics is not None:
        shown = ", ".join(f"{name} {_short(value)}" for name, value in status.metrics.items() if _is_plain(value))
        lines.append(f"metrics    {shown}")
    if status.versions:
        lines.append("versions   " + ", ".join(f"{name} {version}" for name, version in status.versions.items()))
    if status.state == "stopped":
        lines.append("the same command goes on where it stopped")
    return "\n".join(lines)


def _describe_rejects(rejects: dict[str, int] | None) -> str:
    if rejects is None:
        return "not counted, there are many shards (--rejects)"
    return ", ".join(f"{reason} {count:,}" for reason, count in rejects.items()) or "none"


def _is_plain(value: object) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)


def _short(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
