"""Runs of many millions of rows through a run's own pieces, with images and a model that cost nothing.

`make scale`, or python tests/benchmarks/bench_scale.py --rows 10_000_000 --resume-rows 1_000_000_000

Listed, planned, committed, verified, published, and opened again: seconds per million rows, the peak memory of the
process in that phase, and how both grow from a tenth of the rows. Then a run of `--resume-rows`, half of whose shards
are there, is resumed: its plan and its shards are names alone, which is all that resuming reads.

    python tests/benchmarks/bench_scale.py --ray-rows 1_000_000

Instead: a tenth of the rows and then all, through Ray Data, as `pipelines/label.py` does it, on small JPEGs; the model
alone costs nothing.
"""

import argparse
import contextlib
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[2]))
from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.label_columns import label_schema
from faceattr.data.runs.begin import open_run
from faceattr.data.runs.commit import shard_key
from faceattr.data.runs.plan import PART_ROWS, Plan, PlanPart, choose_shard_size, plan_schema, write_plan
from faceattr.data.runs.version import RunVersion
from faceattr.data.stores.local import LocalStore
from tests.benchmarks.bench_planning import keys_of, label_rows

ATTRIBUTES = AttributeSet(attributes=tuple(Attribute(name=name) for name in ("hat", "glasses", "facial_hair")))
BLOCK_ROWS = 1_024
# phase -> (seconds, MB)
Figures = dict[str, tuple[float, float]]


@contextlib.contextmanager
def measured(figures: Figures, phase: str) -> Iterator[list[float]]:
    """Sets the seconds of the block, less what it appends to the list, and the peak memory while it ran."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    others: list[float] = []
    started = time.perf_counter()
    yield others
    seconds = time.perf_counter() - started - sum(others)
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    figures[phase] = (seconds, int(peak.split()[1]) / 1_024)


def listed(num_rows: int, others: list[float]) -> Iterator[pa.Table]:
    """The rows of a plan, as a listing gives them; the time to make them up is not the run's."""
    for first in range(0, num_rows, 8_192):
        started = time.perf_counter()
        ids = keys_of(first, min(8_192, num_rows - first))
        columns = {
            "image_id": ids,
            "uri": [f"s3://faces/raw/{each}" for each in ids],
            "num_bytes": [20_000] * len(ids),
            "etag": [each[-36:-4] for each in ids],
        }
        table = pa.table({**columns, "source_row": pa.nulls(len(ids), pa.int64())}, schema=plan_schema())
        others.append(time.perf_counter() - started)
        yield table


def run_rows(folder: Path, num_rows: int) -> Figures:
    """A whole run of so many rows."""
    store, figures = LocalStore(folder), Figures()
    settings = {"kind": "label", "fingerprint": {}, "config": {}, "versions": {}, "notes": {}}
    with measured(figures, "plan") as others:
        record = open_run(
            store,
            **settings,
            write_plan=lambda: (write_plan(store, listed(num_rows, others), unique_by_source=True), {}, pa.schema([])),
        )
    version = RunVersion(store, record, label_schema(ATTRIBUTES))
    work, rng = version.work(), np.random.default_rng(0)
    committer = version.committer(work)
    with measured(figures, "commit") as others:
        for first in range(0, num_rows, BLOCK_ROWS):
            started = time.perf_counter()
            block = label_rows(version.schema, first, min(BLOCK_ROWS, num_rows - first), rng)
            others.append(time.perf_counter() - started)
            committer.add(block)
    with measured(figures, "verify"):
        manifest = version.verify([])
    with measured(figures, "publish"):
        version.publish(manifest)
    if manifest.num_rows != num_rows:
        sys.exit(f"published {manifest.num_rows:,} of {num_rows:,} rows")
    with measured(figures, "open again"):
        again = open_run(store, **settings, write_plan=lambda: sys.exit("it was planned again"))
        RunVersion(store, again, label_schema(ATTRIBUTES)).work()
    sizes = [entry.num_bytes for entry in store.list()]
    print(f"{num_rows:,} rows: {len(sizes):,} objects, {sum(sizes) / num_rows:.0f} bytes a row")
    return figures


def resume_rows(folder: Path, num_rows: int) -> Figures:
    """A run of so many rows whose first half is committed: what it takes to know which rows are left."""
    store, figures = LocalStore(folder), Figures()
    parts = tuple(
        PlanPart(
            key=f"plan/part-{first // PART_ROWS}.parquet", first_row=first, num_rows=min(PART_ROWS, num_rows - first)
        )
        for first in range(0, num_rows, PART_ROWS)
    )
    plan = Plan(num_rows=num_rows, num_bytes=0, shard_size=choose_shard_size(num_rows), parts=parts)
    settings = {"kind": "label", "fingerprint": {}, "config": {}, "versions": {}, "notes": {}}
    record = open_run(store, **settings, write_plan=lambda: (plan, {}, pa.schema([])))
    committed = RunVersion(store, record, label_schema(ATTRIBUTES)).folder
    for shard in range(plan.num_shards // 2):
        store.put(shard_key(committed, plan, shard), b"")
    with measured(figures, "resume"):
        again = open_run(store, **settings, write_plan=lambda: sys.exit("it was planned again"))
        work = RunVersion(store, again, label_schema(ATTRIBUTES)).work()
        parts_to_read = len(work.plan.parts_with(work.pending))
    print(f"{num_rows:,} rows: {len(work.pending):,} of {plan.num_shards:,} shards to do, from {parts_to_read:,} parts")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--resume-rows", type=int, default=1_000_000_000)
    parser.add_argument("--ray-rows", type=int)
    parser.add_argument("--folder", type=Path, help="where the runs are written, and removed; default: temporary files")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as scratch:
        if given.ray_rows is not None:
            from tests.benchmarks.scale_ray import run_through_ray

            for num_rows in (given.ray_rows // 10, given.ray_rows):
                run_through_ray(Path(scratch), num_rows)
            return
        runs = {}
        for num_rows in (given.rows // 10, given.rows):
            runs[num_rows] = run_rows(Path(scratch) / "run", num_rows)
            shutil.rmtree(Path(scratch) / "run")
        few, many = runs.values()
        print(f"{'phase':12}{'s':>9}{'s a million':>13}{'peak MB':>9}   growth from a tenth of the rows: s, MB")
        for phase, (seconds, peak) in many.items():
            growth = f"{seconds / max(few[phase][0], 1e-3):10.1f}x{peak / few[phase][1]:8.2f}x"
            print(f"{phase:12}{seconds:9.2f}{seconds / given.rows * 1e6:13.3f}{peak:9.0f}   {growth}")
        for phase, (seconds, peak) in resume_rows(Path(scratch) / "resumed", given.resume_rows).items():
            print(f"{phase:12}{seconds:9.2f}{'':13}{peak:9.0f}")
    print(f"peak of all: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024:,.0f} MB")


if __name__ == "__main__":
    main()
