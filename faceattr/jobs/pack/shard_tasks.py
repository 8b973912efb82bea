"""Tasks that make whole shards: each reads the plan rows of a shard, makes its rows, and commits them itself.

For jobs whose rows contain images, which must not travel through the driver. What comes back is one short row per row.
Shards are committed as in every run (`data/runs/commit.py`): a task that runs twice finds its shard committed.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import ray
import ray.data

from faceattr.config import StorageConfig
from faceattr.data.runs.commit import CheckShards, CommittedFile, ShardCommitter, check_shard, commit_all
from faceattr.data.runs.pending import PendingShards
from faceattr.data.runs.plan import Plan, read_part
from faceattr.data.runs.version import RunVersion
from faceattr.errors import RunError
from faceattr.jobs.images.read import process_store

# Enough tasks that the last ones are short; few enough that scheduling costs nothing.
_TASKS_A_CPU = 8
_MAX_SHARDS_A_TASK = 16
_VERIFY_CPUS = 0.5
_REPORTED = ("row", "image_id", "status", "error")

# Plan rows in; rows of the run out, one per plan row, in any order and division into tables; picklable.
MakeRows = Callable[[pa.Table], Iterator[pa.Table]]


@dataclass(frozen=True)
class MakeShards:
    """Places in the list of pending shards -> `row, image_id, status, error` of every row that was made."""

    run_uri: str
    storage: StorageConfig
    work: PendingShards
    folder: str
    schema: pa.Schema
    make: MakeRows

    def __call__(self, places: pa.Table) -> Iterator[pa.Table]:
        """Makes and commits one shard after the other."""
        for place in places["id"].to_pylist():
            yield self._make(int(self.work.pending[place]))

    def _make(self, shard: int) -> pa.Table:
        store = process_store(self.run_uri, self.storage)
        plan_rows = self.work.rows_to_do(store, self._plan_rows(shard))
        reported: list[pa.Table] = []
        committer = ShardCommitter(
            store=store,
            folder=self.folder,
            plan=self.work.plan,
            schema=self.schema,
            committed=(),
            kept_rows=lambda shard: self.work.kept_rows(store, shard, self.schema.names),
        )
        # The images of a table are released as soon as they are in the shard.
        commit_all(committer, self.make(plan_rows), on_rows=lambda rows: reported.append(rows.select(_REPORTED)))
        return pa.concat_tables(reported)

    def _plan_rows(self, shard: int) -> pa.Table:
        numbers = self.work.plan.shard_range(shard)
        place = next(
            place for place, part in enumerate(self.work.plan.parts) if numbers.start < part.first_row + part.num_rows
        )
        part = _read_part(self.run_uri, self.storage, self.work.plan, place)
        return part.slice(numbers.start - self.work.plan.parts[place].first_row, len(numbers))


@functools.lru_cache(maxsize=2)
def _read_part(run_uri: str, storage: StorageConfig, plan: Plan, place: int) -> pa.Table:
    """Reads a plan part, and keeps it: a process makes shards of the same part one after the other."""
    return read_part(process_store(run_uri, storage), plan.parts[place])


def make_shards(
    work: PendingShards, version: RunVersion, make: MakeRows, *, storage: StorageConfig, cpus: float, name: str
) -> Iterator[pa.Table]:
    """Makes the pending shards on the cluster; yields the rows of `MakeShards`, in any order.

    Args:
        work: the pending shards.
        version: the version of the run that the shards belong to.
        make: makes the rows.
        storage: how the run folder is accessed.
        cpus: logical CPUs that a task claims.
        name: name of the data set on the dashboard.
    """
    task = MakeShards(version.store.uri, storage, work, version.folder, version.schema, make)
    num_shards = len(work.pending)
    dataset = ray.data.range(num_shards, override_num_blocks=_count_tasks(num_shards)).map_batches(
        task, batch_size=None, batch_format="pyarrow", num_cpus=cpus
    )
    dataset.set_name(name)
    yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2)


def _count_tasks(num_shards: int) -> int:
    cpus = max(1.0, ray.cluster_resources().get("CPU", 1.0))
    shards_a_task = min(_MAX_SHARDS_A_TASK, max(1, int(num_shards / (_TASKS_A_CPU * cpus))))
    return math.ceil(num_shards / shards_a_task)


@dataclass(frozen=True)
class CheckShardFiles:
    """Shards and their keys -> one row per shard: the manifest's entry, and the small columns as an Arrow stream."""

    run_uri: str
    storage: StorageConfig
    plan: Plan
    run_id: str

    def __call__(self, shards: pa.Table) -> Iterator[pa.Table]:
        """Checks one shard after the other. Raises RunError; see `check_shard`."""
        store = process_store(self.run_uri, self.storage)
        for shard, key in zip(shards["shard"].to_pylist(), shards["key"].to_pylist(), strict=True):
            file, table = check_shard(store.get(key), key, self.plan, shard, run_id=self.run_id)
            _check_images(table, key)
            small = table.drop_columns(["image"]) if "image" in table.column_names else table
            yield pa.table({**{name: [value] for name, value in asdict(file).items()}, "rows": [_to_stream(small)]})


def _check_images(table: pa.Table, key: str) -> None:
    """Raises RunError unless exactly the good rows have an image."""
    if "image" not in table.column_names:
        return
    has_image = ~np.asarray(table["image"].is_null())
    is_good = np.array([status == "ok" for status in table["status"].to_pylist()], bool)
    wrong = np.flatnonzero(has_image != is_good)
    if len(wrong):
        raise RunError(f"{key}: row {table['row'][int(wrong[0])]} has an image and an error, or neither")


def _to_stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def checker_on_cluster(version: RunVersion, storage: StorageConfig, *, name: str) -> CheckShards:
    """Returns a function that checks shards by tasks, so that images stay out of the driver; see `verify_shards`."""

    def check(keys: Mapping[int, str]) -> Iterator[tuple[CommittedFile, pa.Table]]:
        task = CheckShardFiles(version.store.uri, storage, version.record.plan, version.record.run_id)
        items = [{"shard": shard, "key": key} for shard, key in keys.items()]
        dataset = ray.data.from_items(items, override_num_blocks=_count_tasks(len(items))).map_batches(
            task, batch_size=None, batch_format="pyarrow", num_cpus=_VERIFY_CPUS
        )
        dataset.set_name(name)
        for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2):
            for row in batch.to_pylist():
                rows = pa.ipc.open_stream(row.pop("rows")).read_all()
                yield CommittedFile(**row), rows

    return check
