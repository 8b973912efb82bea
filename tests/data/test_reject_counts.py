"""Rejected rows of earlier sessions are counted from the footers of their shards."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceattr.config import StorageConfig
from faceattr.data.runs.begin import open_run
from faceattr.data.runs.commit import commit_shard, shard_key
from faceattr.data.runs.plan import plan_schema, write_plan
from faceattr.data.runs.reject_counts import count_rejected
from faceattr.data.runs.version import RunVersion
from faceattr.data.stores.open import open_store

SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        ("image", pa.binary()),
        ("status", pa.string()),
        ("error", pa.string()),
    ]
)
BAD = {0: [], 1: [300, 511], 2: list(range(512, 768)), 3: [800]}


@pytest.fixture(params=["local", "s3"])
def version(request, tmp_path):
    store = open_store(str(tmp_path / "run") if request.param == "local" else request.getfixturevalue("s3_uri"))
    keys = [f"{number}.jpg" for number in range(1_000)]
    table = pa.table(
        [keys, keys, pa.nulls(1_000, pa.int64()), pa.nulls(1_000, pa.string()), pa.nulls(1_000, pa.int64())],
        schema=plan_schema(),
    )
    record = open_run(
        store,
        kind="label",
        fingerprint={},
        config={},
        versions={},
        notes={},
        write_plan=lambda: (write_plan(store, [table]), {}, pa.schema([])),
    )
    return RunVersion(store, record, SCHEMA)


def commit(version, shard, bad, folder=None):
    numbers = list(version.record.plan.shard_range(shard))
    rows = pa.table(
        {
            "row": numbers,
            "image": [None if number in bad else bytes(100) for number in numbers],
            "status": ["empty" if number in bad else "ok" for number in numbers],
            "error": ["0 bytes" if number in bad else None for number in numbers],
        },
        schema=version.schema,
    )
    commit_shard(version.store, shard_key(folder or version.folder, version.record.plan, shard), rows)


def test_only_shards_that_were_committed_before_the_session_are_counted(version):
    for shard in (0, 1, 2):
        commit(version, shard, BAD[shard])
    work = version.work()
    assert work.pending.tolist() == [3]
    commit(version, 3, BAD[3])  # by this session: its rows are judged as they come
    assert count_rejected(version, work, StorageConfig()) == 2 + 256


def test_in_a_retry_the_rows_that_are_done_again_are_not_counted(version):
    for shard, bad in BAD.items():
        commit(version, shard, bad)
    version.publish(version.verify())
    retry = RunVersion(version.store, version.record, SCHEMA, retry_failed=True)
    assert count_rejected(retry, retry.work(), StorageConfig()) == 0
    commit(retry, 2, BAD[2][:10])  # an earlier session of the retry mended most
    work = retry.work()
    assert work.pending.tolist() == [1, 3]
    assert count_rejected(retry, work, StorageConfig()) == 10


def test_files_without_statistics_are_counted_by_their_status(version, tmp_path):
    key = shard_key(version.folder, version.record.plan, 0)
    sink = pa.BufferOutputStream()
    table = pa.table(
        {"row": np.arange(256), "status": ["ok"] * 200 + ["empty"] * 56, "error": [None] * 200 + ["x"] * 56}
    )
    pq.write_table(table, sink, write_statistics=False)
    version.store.put(key, sink.getvalue().to_pybytes())
    assert count_rejected(version, version.work(), StorageConfig()) == 56
