"""Measures the figures of `faceattr plan` that one machine can tell: `faceattr/planning/rates.yaml` holds the results.

python tests/benchmarks/bench_planning.py
"""

import dataclasses
import hashlib
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[2]))
from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.label_columns import label_schema
from faceattr.data.runs.begin import open_run
from faceattr.data.runs.commit import OK, list_committed, verify_shards
from faceattr.data.runs.plan import plan_schema, write_plan
from faceattr.data.runs.version import RunVersion
from faceattr.data.stores.local import LocalStore
from faceattr.data.stores.open import open_store
from faceattr.demo.store import serve_s3

NUM_ROWS, NUM_GETS, NUM_ATTRIBUTES = 1_000_000, 4_000, 3


def keys_of(first: int, count: int) -> list[str]:
    """Keys that do not compress, as a real bucket has them."""
    return [
        f"part-{number % 997:03d}/{hashlib.md5(str(number).encode()).hexdigest()}.jpg"
        for number in range(first, first + count)
    ]


def plan_tables():
    for start in range(0, NUM_ROWS, 10_000):
        ids = keys_of(start, 10_000)
        uris = [f"s3://faces/raw/{each}" for each in ids]
        etags = [hashlib.md5(each.encode()).hexdigest() for each in ids]
        columns = {"image_id": ids, "uri": uris, "num_bytes": [20_000] * len(ids), "etag": etags}
        yield pa.table({**columns, "source_row": pa.nulls(len(ids), pa.int64())}, schema=plan_schema())


def label_rows(schema: pa.Schema, first: int, count: int, rng: np.random.Generator) -> pa.Table:
    """Rows as a run makes them: keys and hashes that do not compress, scores that hardly do."""
    ids = keys_of(first, count)
    columns = {
        "row": pa.array(np.arange(first, first + count)),
        "image_id": ids,
        "uri": [f"s3://faces/raw/{each}" for each in ids],
        "sha256": [hashlib.sha256(each.encode()).hexdigest() for each in ids],
        "width_px": pa.array(np.full(count, 224), pa.int32()),
        "height_px": pa.array(np.full(count, 224), pa.int32()),
        "status": [OK] * count,
        "error": pa.nulls(count, pa.string()),
    }
    for field in schema:
        if field.name not in columns:
            values = rng.random(count)
            columns[field.name] = pa.array((values > 0.5).astype(np.int8) if field.type == pa.int8() else values)
    return pa.table({name: columns[name] for name in schema.names}).cast(schema)


def measure_table(folder: Path, num_attributes: int) -> tuple[float, float, float, float, float]:
    """Rows a CPU second to plan, to commit, to verify (others may use the machine); bytes a row of plan and table."""
    store = LocalStore(folder)
    source = list(plan_tables())
    started = time.process_time()

    def plan():
        return write_plan(store, source), {}, pa.schema([])

    record = open_run(store, kind="label", fingerprint={}, config={}, versions={}, notes={}, write_plan=plan)
    plan_rate = NUM_ROWS / (time.process_time() - started)
    attributes = AttributeSet(attributes=tuple(Attribute(name=f"a{n}") for n in range(num_attributes)))
    schema = label_schema(attributes)
    version = RunVersion(store, record, schema)
    committer, rng = version.committer(version.work()), np.random.default_rng(0)
    blocks = [label_rows(version.schema, first, 256, rng) for first in range(0, NUM_ROWS // 4, 256)]
    num_rows = sum(map(len, blocks))
    started = time.process_time()
    for block in blocks:
        committer.add(block)
    commit_rate = num_rows / (time.process_time() - started)
    keys = list_committed(store, version.folder, record.plan)
    size = record.plan.shard_size
    done = dataclasses.replace(record.plan, num_rows=len(keys) * size)
    started = time.process_time()
    files = verify_shards(store, keys, done, run_id=record.run_id)
    verify_rate = done.num_rows / (time.process_time() - started)
    plan_bytes = sum((folder / part.key).stat().st_size for part in record.plan.parts) / NUM_ROWS
    return plan_rate, commit_rate, verify_rate, plan_bytes, sum(file.num_bytes for file in files) / done.num_rows


def measure_reads(folder: Path) -> float:
    """Core seconds of this process for a GET and the image's hash, 16 at a time as the reading stage has them."""
    with serve_s3(folder) as s3:
        os.environ.update(s3.environment)
        store = open_store(f"s3://{s3.bucket}/raw")
        data = np.random.default_rng(0).bytes(20_000)
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda number: store.put(f"{number:05d}.jpg", data), range(500)))
            started = time.process_time()
            keys = (f"{number % 500:05d}.jpg" for number in range(NUM_GETS))
            list(pool.map(lambda key: hashlib.sha256(store.get(key)).hexdigest(), keys))
            return (time.process_time() - started) / NUM_GETS


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        plan_rate, commit_rate, verify_rate, plan_bytes, few = measure_table(folder / "few", NUM_ATTRIBUTES)
        *_, many = measure_table(folder / "many", NUM_ATTRIBUTES + 10)
        each = (many - few) / 10
        print(f"read_cpu_s             {measure_reads(folder / 's3'):.5f}")
        print(f"plan_rows_per_s        {plan_rate:,.0f}")
        print(f"commit_rows_per_s      {commit_rate:,.0f}")
        print(f"verify_rows_per_s      {verify_rate:,.0f}")
        print(f"plan_row_bytes         {plan_bytes:.1f}")
        print(f"label_row_bytes        {few - NUM_ATTRIBUTES * each:.1f}")
        print(f"label_attribute_bytes  {each:.2f}")


if __name__ == "__main__":
    main()
