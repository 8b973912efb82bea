"""The rows that a packed run is planned from: the labels and the content hash of every image.

Where a source has no hashes, images are read and hashed first. That is a separate run in the folder `scan`: its plan
freezes the labels, its shards contain hashes, and it is published like every run, so it resumes where it was stopped.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceattr.data.images.decode import REASONS
from faceattr.data.packed.copies.near import HASH_FIELD
from faceattr.data.packed.plan import ROW_FIELDS, ReadRows, label_fields_of
from faceattr.data.packed.reader import STATUS_FIELDS, packed_schema
from faceattr.data.runs.begin import open_run
from faceattr.data.runs.plan import Plan, plan_schema, write_plan
from faceattr.data.runs.version import RunVersion, read_published
from faceattr.data.sources.gather import GatheredLabels
from faceattr.data.sources.source import Rejects
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.open import open_output
from faceattr.data.stores.store import Store
from faceattr.errors import ConfigError
from faceattr.jobs.cluster.progress import ErrorBudget
from faceattr.jobs.cluster.session import cluster_errors
from faceattr.jobs.cluster.watch_run import watch_run
from faceattr.jobs.pack.job import SCAN_FOLDER, PackJob
from faceattr.jobs.pack.shard_tasks import make_shards
from faceattr.jobs.pack.stages import HashImages, ReadPlaces, mean_bytes

logger = logging.getLogger(__name__)

# Threads wait for the store, so a few tasks are enough; each needs a process.
_SCAN_CPUS = 0.5
_SAMPLE_ROWS = 64


@dataclass(kw_only=True)
class FoundRows:
    """The rows that can be packed.

    Attributes:
        read: starts a new pass over the rows: `data.packed.plan.ROW_FIELDS` and the label columns.
        rejects: rows that the sources could not use: `total`, and `text` for the user; complete after one pass.
        mean_bytes: mean size of an image in bytes, 0 if unknown.
    """

    read: ReadRows
    rejects: dict[str, Any] = field(default_factory=dict)
    mean_bytes: float = 0.0


def find_rows(job: PackJob, gathered: GatheredLabels) -> FoundRows:
    """Finds the rows of a command, with the content hash of every image that can be read.

    Raises:
        ConfigError: an image occurs twice, or there is none.
        RunError: too many images are unusable, or the cluster failed.
    """
    if not gathered.hashed or job.near_copies is not None:
        return _scan(job, gathered)
    found = FoundRows(read=lambda: ())

    def read() -> Iterator[pa.Table]:
        rejects = Rejects()
        yield from source_rows(job, gathered, rejects)
        found.rejects = describe_rejects(rejects)

    found.read = read
    return found


def source_rows(job: PackJob, gathered: GatheredLabels, rejects: Rejects) -> Iterator[pa.Table]:
    """Yields the rows as the sources have them: ROW_FIELDS and the label columns, sizes unknown.

    Raises:
        ConfigError: at the end, if the share of rows that cannot be used is above --max-error-share.
    """
    labels = gathered.labels
    schema = pa.schema([*ROW_FIELDS, *label_fields_of(labels.attributes, labels.scored)])
    left, num_rows = job.config.limit, 0
    for whole in labels.tables(rejects):
        table = whole.slice(0, left)
        num_rows += len(table)
        made = {"place": gathered.place_of(table), "num_bytes": pa.nulls(len(table), pa.int64())}
        columns = [made[name] if name in made else table[name] for name in schema.names]
        if len(table):
            yield pa.table(columns, schema=schema)
        if left is not None:
            left -= len(table)
            if not left:
                break
    _check_share(rejects, num_rows, job.config.max_error_share, labels.where)


def _check_share(rejects: Rejects, num_rows: int, max_share: float, where: str) -> None:
    """Applies the images' error budget to label rows; images that a label run rejected were judged by that run."""
    bad = sum(count for reason, count in rejects.counts.items() if reason not in REASONS)
    if bad > max_share * (bad + num_rows):
        total = bad + num_rows
        raise ConfigError(
            f"{where}: {bad:,} of {total:,} label rows ({bad / total:.1%}) cannot be used, more than --max-error-share "
            f"{max_share:g}. Correct the table or --source-options, or raise the share to leave them out:\n"
            f"{rejects.describe()}"
        )


def describe_rejects(rejects: Rejects) -> dict[str, Any]:
    """Returns a plain form for run.json."""
    text, files = rejects.describe(), rejects.files.to_json()
    return {"total": rejects.total, "counts": rejects.counts, "text": text, "files": files}


def _scan(job: PackJob, gathered: GatheredLabels) -> FoundRows:
    store = open_output(join_uri(job.output.uri, SCAN_FOLDER), job.storage)
    labels = gathered.labels
    rest = [each for each in ROW_FIELDS if each.name not in plan_schema().names]
    carried = pa.schema([*rest, *label_fields_of(labels.attributes, labels.scored)])

    def plan() -> tuple[Plan, dict[str, Any], pa.Schema]:
        rejects = Rejects()
        plan = write_plan(store, _plan_tables(source_rows(job, gathered, rejects), carried))
        return plan, {"rejects": describe_rejects(rejects)}, carried

    record = open_run(
        store,
        kind="scan",
        fingerprint=job.source_fingerprint,
        config=asdict(job.config),
        versions={name: metadata.version(name) for name in ("ray", "pyarrow")},
        notes={},
        write_plan=plan,
    )
    schema = scan_schema(job, list(carried)[len(rest) :])
    version = RunVersion(store, record, schema)
    inherited = version.finished or len(version.work().pending) < record.plan.num_shards
    if not version.finished:
        _hash_images(job, gathered, version)
    if inherited and version.published and any(file.num_bad for file in version.published.files):
        # Whatever was wrong may have been fixed since; once the plan is frozen it is too late for that.
        version = RunVersion(store, record, schema, retry_failed=True)
        _hash_images(job, gathered, version)
    return _read_scan(
        job, store, record.plan.num_rows, record.source["rejects"], [each.name for each in schema if each.name != "row"]
    )


def scan_schema(job: PackJob, labels: Sequence[pa.Field]) -> pa.Schema:
    """Returns the columns of the scan's shards; `labels` are the label columns."""
    pictures = [] if job.near_copies is None else [HASH_FIELD]
    return pa.schema([pa.field("row", pa.int64(), nullable=False), *ROW_FIELDS, *pictures, *labels, *STATUS_FIELDS])


def hash_images(job: PackJob, gathered: GatheredLabels, schema: pa.Schema) -> HashImages:
    """Returns the stage that makes rows of the scan of plan rows."""
    read = ReadPlaces(gathered.places, job.storage, job.limits)
    return HashImages(read, job.config.decode.timeout_s, schema)


def _plan_tables(tables: Iterable[pa.Table], carried: pa.Schema) -> Iterator[pa.Table]:
    schema = plan_schema(list(carried))
    for table in tables:
        columns = [table[each.name] if each.name != "etag" else pa.nulls(len(table), each.type) for each in schema]
        yield pa.table(columns, schema=schema)


def _hash_images(job: PackJob, gathered: GatheredLabels, version: RunVersion) -> None:
    work, plan = version.work(), version.record.plan
    if work.num_rows:
        logger.info("scan pending_rows=%d of=%d", work.num_rows, plan.num_rows)
        make = hash_images(job, gathered, version.schema)
        # `_scan` retries what earlier sessions rejected, so these rejects do not count before that.
        budget = ErrorBudget(job.config.max_error_share, plan.num_rows)
        with watch_run(version, work, budget, is_whole_run=False) as on_rows, cluster_errors():
            tables = make_shards(work, version, make, storage=job.storage, cpus=_SCAN_CPUS, name="faceattr_pack_scan")
            for rows in tables:
                on_rows(rows)
    version.publish(version.verify())


def _read_scan(job: PackJob, store: Store, num_rows: int, rejects: dict[str, Any], columns: list[str]) -> FoundRows:
    budget = ErrorBudget(job.config.max_error_share, num_rows)
    sizes = [np.empty(0)]
    for table in read_published(store, ["row", "image_id", "num_bytes", "status", "error"]):
        budget.observe(table)
        sizes.append(table["num_bytes"].drop_null().to_numpy())
    budget.judge()
    known = np.concatenate(sizes)
    names = [name for name in columns if name not in ("status", "error")]
    return FoundRows(
        read=lambda: read_published(store, names),
        rejects=rejects,
        mean_bytes=float(known.mean()) if len(known) else 0.0,
    )


def measure_row_bytes(job: PackJob, gathered: GatheredLabels, found: FoundRows) -> float:
    """Estimates bytes of an image in a shard: known from the scan, or measured on a sample; 0 if none can be read."""
    if found.mean_bytes and job.encoding.quality is None:
        return found.mean_bytes
    return mean_bytes(pack_sample(job, gathered, take_sample(found.read())))


def take_sample(tables: Iterable[pa.Table], num_rows: int = _SAMPLE_ROWS) -> pa.Table:
    """Returns evenly spaced rows, numbered. The first rows may be smaller than the rest, and a shard whose size is
    derived from them would exceed a worker's memory.
    """
    held: list[pa.Table] = []
    step, num_seen = 1, 0
    for table in tables:
        start = -num_seen % step
        num_seen += len(table)
        held.append(table.take(pa.array(range(start, len(table), step), pa.int64())))
        while sum(map(len, held)) >= 2 * num_rows:
            step *= 2
            held = [_every_other(pa.concat_tables(held))]
    sample = pa.concat_tables(held)
    places = np.unique(np.linspace(0, max(0, len(sample) - 1), min(num_rows, len(sample))).astype(np.int64))
    return sample.take(pa.array(places)).add_column(0, "row", pa.array(range(len(places)), pa.int64()))


def _every_other(table: pa.Table) -> pa.Table:
    return table.take(pa.array(range(0, len(table), 2), pa.int64()))


def pack_sample(job: PackJob, gathered: GatheredLabels, rows: pa.Table) -> pa.Table:
    """Packs a few rows in this process."""
    labels = gathered.labels
    schema = packed_schema(labels.attributes, labels.scored, faces=job.faces is not None)
    if not len(rows):
        return schema.empty_table()
    known = rows.filter(pc.is_valid(rows["sha256"]))
    return pa.concat_tables([schema.empty_table(), *job.pack_images(gathered.places, schema)(known)])
