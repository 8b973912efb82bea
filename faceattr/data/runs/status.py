"""The status of a run, read from its folder without a cluster: state, rows, rate, rejects, versions.

All of it comes from one listing, run.json, the manifest, the lease and the session files.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow.parquet as pq

from faceattr.config import StorageConfig
from faceattr.data.formats.json_files import damage_named, decode_object, decode_versioned
from faceattr.data.runs.changes.change import find_deletion, read_change, update_key
from faceattr.data.runs.changes.extent import Extent
from faceattr.data.runs.commit import OK
from faceattr.data.runs.lease import find_driver, find_stop_reason
from faceattr.data.runs.limit import WaitedFor, read_waited_for
from faceattr.data.runs.plan import Plan
from faceattr.data.runs.version import RUN_KEY, Manifest, read_manifest
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.ranged import open_ranged
from faceattr.data.stores.store import ObjectInfo, Store
from faceattr.errors import ConfigError

State = Literal["planning", "stopped", "running", "published"]
_SHARD = re.compile(r"(?:^|/)shard-\d{8}\.parquet$")
_CHECKPOINT = re.compile(r"checkpoints/epoch-(\d{5,})\.")
METRICS_KEY = "metrics.jsonl"
PROGRESS_KEY = "progress.json"
# The last file that runs without a manifest write. A search resumed with more trials has records newer than its report.
_LAST_KEYS = {"train": "config.json", "search": "report.html"}
# The rate of an active run is measured over its commits of this many last seconds.
_RATE_WINDOW_S = 600.0


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """The status of a run.

    Attributes:
        kind: kind of job, or None while the input is being listed.
        state: planning (no run.json yet), running (a driver is alive), published, or stopped.
        driver: host and process id of the active driver.
        num_rows: rows of the run; None for runs without a plan.
        num_committed: committed rows.
        num_shards: committed shards.
        rate: rows per second: of the latest commits while it runs, else of the sessions.
        sessions: start (seconds since 1970) and rows of each session that ended.
        waited_for: what these sessions waited for, if it was measured.
        rejects: reason to rows, or None if they were not counted.
        metrics: line of metrics.jsonl: of a published training the one of the model's epoch, else the last.
        num_epochs: lines of metrics.jsonl.
        versions: package versions at the start of the run.
        stop_reason: why the last driver stopped before its end, if it could tell.
        unfinished: what a training says of its best model so far, by `faceattr.models.saved_config`.
        resumed_from: the checkpoint from which a training started, by `faceattr.training.lineage.origin`.
        change: what an update or a deletion changed to make the published version; None if neither made it.
        num_deletions: deletions that have ended.
        version: number of the published version; None without one.
        decisions: attribute -> threshold and abstain band with which that version was labelled again, if it was.
        begun_deletion: when a deletion was begun that has not ended; None if there is none.
    """

    kind: str | None
    state: State
    driver: dict[str, Any] | None
    num_rows: int | None
    num_committed: int
    num_shards: int
    rate: float | None
    sessions: tuple[tuple[float, int], ...]
    rejects: dict[str, int] | None
    metrics: dict[str, Any] | None
    versions: dict[str, str]
    num_epochs: int = 0
    stop_reason: str | None = None
    waited_for: WaitedFor | None = None
    unfinished: dict[str, Any] | None = None
    resumed_from: dict[str, Any] | None = None
    change: dict[str, Any] | None = None
    num_deletions: int = 0
    version: int | None = None
    decisions: Mapping[str, Any] = field(default_factory=dict)
    begun_deletion: str | None = None


def read_run_status(
    store: Store,
    *,
    storage: StorageConfig | None = None,
    count_rejects_in: int = 64,
    find_driver: Callable[[Store], dict[str, Any] | None] = find_driver,
) -> RunStatus:
    """Reads the status of a run folder.

    Args:
        store: the run folder.
        storage: how it is reached, to read single columns of shards.
        count_rejects_in: largest number of shards of an unpublished run whose rejects are counted, which reads a column
            of each.
        find_driver: returns the active driver; see `faceattr.data.runs.lease`.

    Raises:
        ConfigError: the folder contains no run.
    """
    entries = _without_inner_runs({entry.key: entry for entry in store.list()})
    if not any(key == RUN_KEY or key.startswith(("plan/", "_lease/")) for key in entries):
        raise ConfigError(f"{store.uri} holds no run: no {RUN_KEY}; give the --output of a pipeline")
    record = _read_object(store, RUN_KEY) if RUN_KEY in entries else {}
    manifest = read_manifest(store)
    driver = find_driver(store) if any(key.startswith("_lease/") for key in entries) else None
    with damage_named(f"a file below {join_uri(store.uri, 'sessions/')}"):
        sessions = sorted(
            (_read_versioned(store, key) for key in entries if key.startswith("sessions/")),
            key=lambda each: (float(each["started"]), int(each["rows"])),
        )
        waited_for = read_waited_for(sessions)
        session_rate = _session_rate(sessions)
    with damage_named(join_uri(store.uri, RUN_KEY)):
        _check_facts(record)
        plan = Plan.from_json(record["plan"]) if record.get("plan", {}).get("num_rows") else None  # a training has none
    extent = _find_extent(store, manifest, entries, running=driver is not None)
    plan = plan if extent is None else extent.plan
    begun = find_deletion(store) if any(key.startswith("deletion-v") for key in entries) else None
    num_removed = extent.removed.count if extent is not None and extent.removed is not None else 0
    shards = [entry for key, entry in entries.items() if _SHARD.search(key)]
    rows = _rows_of(shards, plan)
    model_key = _LAST_KEYS["train"]
    has_model = record.get("kind") == "train" and model_key in entries
    unfinished = _read_object(store, model_key).get("unfinished") if has_model else None
    done = _is_done(record.get("kind"), entries) and unfinished is None
    state = _state(record, manifest is not None or done, driver)
    history = _read_metrics(store) if METRICS_KEY in entries else []
    return RunStatus(
        kind=record.get("kind"),
        state=state,
        driver=driver,
        num_rows=plan.num_rows - num_removed if plan else None,
        num_committed=manifest.num_rows if manifest and not driver else _count_rows(rows) - num_removed,
        num_shards=len(manifest.files) if manifest and not driver else len(shards),
        rate=_commit_rate(shards, rows) if driver else session_rate,
        sessions=tuple((each["started"], each["rows"]) for each in sessions),
        rejects=_count_rejects(store, storage or StorageConfig(), manifest, shards, count_rejects_in),
        metrics=_choose_epoch(history, entries, state),
        versions=record.get("versions", {}),
        num_epochs=len(history),
        stop_reason=find_stop_reason(store) if state == "stopped" else None,
        waited_for=waited_for,
        unfinished=unfinished,
        resumed_from=record.get("notes", {}).get("resumed_from"),
        change=(manifest.change or None) if manifest is not None else None,
        num_deletions=sum(key.startswith("deletions/") for key in entries),
        version=None if manifest is None else manifest.version,
        decisions={} if manifest is None else manifest.decisions,
        begun_deletion=None if begun is None else begun.facts["begun"],
    )


def _find_extent(store: Store, manifest: Manifest | None, keys: Iterable[str], *, running: bool) -> Extent | None:
    """Returns the rows of the published version, or of the update on which a driver works."""
    if manifest is None:
        return None
    key = update_key(manifest.version + 1)
    change = read_change(store, key) if running and key in keys else None
    return manifest.extent if change is None else change.extent


def _check_facts(record: Mapping[str, Any]) -> None:
    for name, expected in (("kind", str), ("plan", dict), ("versions", dict), ("notes", dict)):
        if name in record and not isinstance(record[name], expected):
            raise TypeError(f"{name!r} is {type(record[name]).__name__}")


def _without_inner_runs(entries: dict[str, ObjectInfo]) -> dict[str, ObjectInfo]:
    """Leaves out runs in folders inside this one, such as the scan that packing starts with."""
    inner = tuple(key.removesuffix(RUN_KEY) for key in entries if key.endswith(f"/{RUN_KEY}"))
    return {key: entry for key, entry in entries.items() if not key.startswith(inner)} if inner else entries


def _state(record: dict[str, Any], published: bool, driver: dict[str, Any] | None) -> State:
    if driver is not None:
        return "running" if record else "planning"
    return "published" if published else "stopped"


def _is_done(kind: str | None, entries: Mapping[str, ObjectInfo]) -> bool:
    last = entries.get(_LAST_KEYS.get(kind or "", ""))
    trials = (entry for key, entry in entries.items() if key.startswith("trials/") and key.endswith(".json"))
    return last is not None and all(entry.modified_s <= last.modified_s for entry in trials)


def _rows_of(shards: Sequence[ObjectInfo], plan: Plan | None) -> dict[str, int]:
    """Returns the rows of each shard, by arithmetic: a shard is a fixed range of the plan."""
    if plan is None:
        return {}
    numbers = {shard.key: int(shard.key[-len("00000000.parquet") :].removesuffix(".parquet")) for shard in shards}
    return {key: len(plan.shard_range(number)) for key, number in numbers.items() if number < plan.num_shards}


def _count_rows(rows: Mapping[str, int]) -> int:
    """Counts each shard once: a later version has shards of its own with the same numbers."""
    return sum({key[-len("00000000.parquet") :]: count for key, count in rows.items()}.values())


def _commit_rate(shards: Sequence[ObjectInfo], rows: dict[str, int]) -> float | None:
    """Returns rows per second between the first and last commit of the window, without the first one's rows."""
    if not shards or not rows:
        return None
    newest = max(shard.modified_s for shard in shards)
    window = sorted((s for s in shards if newest - s.modified_s <= _RATE_WINDOW_S), key=lambda shard: shard.modified_s)
    seconds = newest - window[0].modified_s
    return sum(rows.get(shard.key, 0) for shard in window[1:]) / seconds if seconds > 0 else None


def _session_rate(sessions: Sequence[dict[str, Any]]) -> float | None:
    """Returns rows per second from each session's first rows to its last, so that start-up is not counted."""
    spans = [(each["samples"][0], each["samples"][-1]) for each in sessions if each["samples"]]
    seconds = sum(last_s - first_s for (first_s, _), (last_s, _) in spans)
    return sum(last - first for (_, first), (_, last) in spans) / seconds if seconds > 0 else None


def _count_rejects(
    store: Store, storage: StorageConfig, manifest: Manifest | None, shards: Sequence[ObjectInfo], most: int
) -> dict[str, int] | None:
    if manifest is not None:
        return {status: count for status, count in manifest.status_counts.items() if status != OK}
    if len(shards) > most:
        return None
    counts: Counter[str] = Counter()
    for shard in shards:
        with damage_named(uri := join_uri(store.uri, shard.key)), open_ranged(uri, storage) as file:
            parquet = pq.ParquetFile(file)
            if "status" in parquet.schema_arrow.names:
                counts.update(parquet.read(["status"])["status"].to_pylist())
    return {status: count for status, count in sorted(counts.items()) if status != OK}


def _read_metrics(store: Store) -> list[dict[str, Any]]:
    where = join_uri(store.uri, METRICS_KEY)
    lines = store.get(METRICS_KEY).splitlines()
    return [decode_versioned(line, f"{where}, line {number},") for number, line in enumerate(lines, start=1)]


def _choose_epoch(history: Sequence[dict[str, Any]], keys: Iterable[str], state: State) -> dict[str, Any] | None:
    """Returns the figures of the best epoch of a published training, which its model is of; else the last epoch's.

    A folder keeps the checkpoints of the best epoch and the last one.
    """
    kept = [int(match[1]) for match in map(_CHECKPOINT.match, keys) if match]
    if state == "published" and kept and min(kept) <= len(history):
        return history[min(kept) - 1]
    return history[-1] if history else None


def _read_object(store: Store, key: str) -> dict[str, Any]:
    return decode_object(store.get(key), join_uri(store.uri, key))


def _read_versioned(store: Store, key: str) -> dict[str, Any]:
    return decode_versioned(store.get(key), join_uri(store.uri, key))
