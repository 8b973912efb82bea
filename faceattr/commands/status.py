"""`faceattr status`: the state of a run folder, read without a cluster."""

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import tyro

from faceattr.config import StorageConfig
from faceattr.config.checks import check
from faceattr.data.formats.integrity import REMEDY
from faceattr.data.formats.json_files import encode_versioned
from faceattr.data.runs.limit import describe_limit
from faceattr.data.runs.status import RunStatus, read_run_status
from faceattr.data.runs.verification import verify_published
from faceattr.data.stores.open import open_store
from faceattr.data.stores.store import Store
from faceattr.logs import say
from faceattr.search.records import TrialRecord, best_trial, read_records

# Metrics of an attribute that say nothing without the metrics of its classes, or are shown elsewhere.
_LEFT_OUT = frozenset(["count", "empty_classes"])
# States of a run on which a process works.
_WORKING = ("planning", "running")


@dataclass(frozen=True, kw_only=True)
class Status:
    """Prints the state of a run folder: rows, rate, rejects, versions. Needs no cluster and changes nothing."""

    run: tyro.conf.Positional[str]
    """Run folder: a local path or s3://bucket/prefix."""
    rejects: bool = False
    """Count the rejected rows of an unpublished run even if it has many shards; this reads a column of each shard."""
    verify: bool = False
    """Read all files of a published run, and compare them with the sizes and hashes in its manifest. The exit code is 1
    if one is damaged or missing."""
    json: bool = False
    """Print one JSON object a line in place of text, for programs."""
    watch: bool = False
    """Print the status again and again until no process works on the run any more."""
    wait: bool = False
    """Print the status when no process works on the run any more. The exit code is 0 if it is published then, else
    1."""
    interval_s: float = 5.0
    """Seconds between two looks at the run."""
    storage: StorageConfig = field(default_factory=StorageConfig)

    def __post_init__(self) -> None:
        check(self.interval_s > 0, "interval-s", self.interval_s, "more than 0")

    def __call__(self) -> int:
        """Prints the status, once or until the run has ended, and, with `verify`, the damaged files."""
        store = open_store(self.run, self.storage)
        status = self._read(store)
        while (self.watch or self.wait) and status.state in _WORKING:
            if self.watch:
                self._print(store, status)
            time.sleep(self.interval_s)
            status = self._read(store)
        self._print(store, status)
        code = self._verify(store, self.storage) if self.verify else 0
        return 1 if self.wait and status.state != "published" else code

    def _read(self, store: Store) -> RunStatus:
        return read_run_status(store, storage=self.storage, count_rejects_in=2**31 if self.rejects else 64)

    def _print(self, store: Store, status: RunStatus) -> None:
        trials = read_records(store) if status.kind == "search" else ()
        if self.json:
            shown = {"uri": store.uri, **asdict(status), "trials": dict(Counter(each.status for each in trials))}
            print(encode_versioned(shown).decode(), flush=True)
        else:
            blank = "\n" if self.watch and status.state in _WORKING else ""
            say(f"{describe_status(store.uri, status, trials)}{blank}")

    def _verify(self, store: Store, options: StorageConfig) -> int:
        found = verify_published(store, options, _show_bytes if sys.stderr.isatty() else lambda done, total: None)
        for problem in found.problems:
            say(f"damaged    {problem}")
        unhashed = f"; {found.num_unhashed} parts of the plan have no hash, an earlier version wrote them"
        say(
            f"verified   {found.num_files:,} files, {found.num_bytes:,} bytes: "
            + (f"{len(found.problems)} are not as they were written; {REMEDY}" if found.problems else "all as written")
            + (unhashed if found.num_unhashed else "")
        )
        return 1 if found.problems else 0


def _show_bytes(done: int, total: int) -> None:
    end = "\n" if done == total else ""
    sys.stderr.write(f"\rverifying  {done / 1e6:,.0f} of {total / 1e6:,.0f} MB ({done / max(1, total):.0%}){end}")
    sys.stderr.flush()


def describe_status(uri: str, status: RunStatus, trials: Sequence[TrialRecord] = ()) -> str:
    """Returns the status as text; `trials` are the finished trials of a search."""
    driver = f" by process {status.driver['pid']} on {status.driver['host']}" if status.driver else ""
    lines = [
        f"run        {uri}",
        f"kind       {status.kind or 'not known before the run is planned'}",
        f"state      {status.state}{driver}",
    ]
    if status.stop_reason is not None:
        lines.append("why        " + status.stop_reason.replace("\n", "\n" + " " * 11))
    if status.num_rows is not None:
        share = status.num_committed / status.num_rows
        lines.append(
            f"rows       {status.num_committed:,} of {status.num_rows:,} ({share:.1%}) in {status.num_shards:,} shards"
        )
    if status.rate is not None:
        lines.append(f"rate       {status.rate:,.1f} rows/s")
    if status.waited_for is not None:
        lines.append(f"speed      {describe_limit(status.waited_for)}")
    lines += [f"session    {_format_time(started)} {rows:,} rows" for started, rows in status.sessions]
    if status.num_rows is not None:
        lines.append(f"rejected   {_describe_rejects(status.rejects)}")
    lines += _describe_change(status)
    if status.metrics is not None:
        lines += _describe_epoch(status.metrics, status.num_epochs, is_model=status.state == "published")
    if status.unfinished is not None:
        epoch, num_epochs = status.unfinished["epoch"], status.unfinished["num_epochs"]
        lines.append(f"model      unfinished: the best so far, of epoch {epoch} of {num_epochs}; it can be used")
    if status.resumed_from is not None:
        lines.append(f"start      after epoch {status.resumed_from['epoch']} of {status.resumed_from['uri']}")
    if status.kind == "search":
        lines += _describe_trials(trials)
    if status.versions:
        lines.append("versions   " + ", ".join(f"{name} {version}" for name, version in status.versions.items()))
    if status.state == "stopped":
        begun = status.kind is not None
        lines.append("the same command resumes it" if begun else "no run was started here yet")
    return "\n".join(lines)


def _describe_change(status: RunStatus) -> list[str]:
    lines = []
    if status.version is not None and status.version > 1:
        thresholds = (f"{name} {each['threshold']:.3f}" for name, each in status.decisions.items())
        again = f", labelled again from its scores: {', '.join(thresholds)}" if status.decisions else ""
        lines.append(f"version    {status.version}{again}")
    if status.change is not None:
        counts = (f"{count:,} {name}" for name, count in status.change.items() if isinstance(count, int))
        lines.append(f"{status.change['kind']:10} {', '.join(counts)}")
    if status.num_deletions:
        lines.append(f"deletions  {status.num_deletions:,}, recorded in deletions/")
    if status.begun_deletion is not None:
        lines.append(f"deletion   begun at {status.begun_deletion} and not ended; faceattr delete-rows RUN finishes it")
    return lines


def _describe_rejects(rejects: dict[str, int] | None) -> str:
    if rejects is None:
        return "not counted, there are many shards (--rejects)"
    return ", ".join(f"{reason} {count:,}" for reason, count in rejects.items()) or "none"


def _describe_epoch(record: Mapping[str, float | None], num_epochs: int, *, is_model: bool) -> list[str]:
    """Describes an epoch: its number, counted from 1 as in the log, losses, and the metrics of each attribute.

    Metrics of single classes are left out: the report plots them.
    """
    known = {name: value for name, value in record.items() if value is not None}
    which = f", the best of {num_epochs} and the model's" if is_model else ""
    lines = [f"epoch      {int(known['epoch']) + 1}{which}, ended {_format_time(known['ended'])}"]
    losses = [f"{part} {known[f'{part}/loss']:.4f}" for part in ("train", "val") if f"{part}/loss" in known]
    lines.append(f"loss       {', '.join(losses)}")
    lines.append(f"rate       {known['images_per_s']:,.1f} images/s, data wait {known['data_wait_share']:.1%}")
    figures: dict[str, list[str]] = {}
    for name, value in known.items():
        match name.split("/"):
            case ["val", attribute, figure] if figure not in _LEFT_OUT:
                figures.setdefault(attribute, []).append(f"{figure} {value:.3f}")
    return lines + [f"{attribute:10} {', '.join(shown)}" for attribute, shown in figures.items()]


def _describe_trials(trials: Sequence[TrialRecord]) -> list[str]:
    counts = Counter(trial.status for trial in trials)
    shown = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    lines = [f"trials     {len(trials)} over" + (f": {shown}" if shown else "")]
    best = best_trial(trials)
    if best is not None and best.judgement is not None:
        lines.append(f"best       {best.name}, objective {best.judgement.objective:.4f}")
    return lines


def _format_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
