"""Seconds until the first images of a resumed run."""

import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks.label_runs import SMALL, finish, make_images, start_label
from tests.checkpoints import save_random_checkpoint


def bench_resume(*, num_rows: int, rounds: int) -> None:
    """A run of which 1,000,000 rows are committed, against a fresh run of the same rest."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = save_random_checkpoint(folder / "model", **SMALL)
        rest = 512
        images = make_images(folder / "images", rest, size_px=112)
        names = [path.name for path in sorted(images.iterdir())]
        committed = [f"done/{number:07d}.jpg" for number in range(num_rows)]
        for name, uris in (("fresh", names), ("resumed", committed + names)):
            pq.write_table(pa.table({"uri": uris}), images / f"{name}.parquet")
        print("preparing the committed rows ...", flush=True)
        _commit_rows(images / "resumed.parquet", folder / "resumed0", model, num_rows)
        seconds: dict[str, list[float]] = {"fresh": [], "resumed": []}
        for turn in range(rounds):
            for name, measured in seconds.items():
                output = folder / f"{name}{turn}"
                if name == "resumed" and turn:
                    subprocess.run(["cp", "-al", str(folder / "pristine"), str(output)], check=True)
                elif name == "resumed":
                    subprocess.run(["cp", "-al", str(output), str(folder / "pristine")], check=True)
                before = len(list((output / "labels").glob("shard-*"))) if (output / "labels").exists() else 0
                started = time.perf_counter()
                process = start_label(images / f"{name}.parquet", output, model)
                while len(list((output / "labels").glob("shard-*"))) <= before:
                    time.sleep(0.05)
                measured.append(time.perf_counter() - started)
                finish(process, output)
                print(
                    f"{name}: first shard after {measured[-1]:.1f} s, finished after "
                    f"{time.perf_counter() - started:.1f} s",
                    flush=True,
                )
    fresh, resumed = (statistics.median(seconds[name]) for name in ("fresh", "resumed"))
    print(f"fresh {fresh:.1f} s, resumed {resumed:.1f} s: {resumed - fresh:+.1f} s for {num_rows:,} committed rows")


def _commit_rows(manifest: Path, output: Path, model: Path, rows: int) -> None:
    """Writes what a run would have committed of its first rows, through the run's own code."""
    from faceattr.config import LabelConfig
    from faceattr.data.runs.plan import read_shards
    from faceattr.jobs.images import label
    from faceattr.jobs.images import run as image_run

    job = label.prepare_label_job(LabelConfig(images=str(manifest), output=str(output), model=str(model)))
    version = image_run.open_version(job, image_run.begin_run(job))
    work = version.work()
    committer = version.committer(work)
    for part in work.plan.parts:
        table = read_shards(job.output, work.plan, part, work.pending)
        table = table.slice(0, max(0, min(len(table), rows - part.first_row)))
        size = work.plan.shard_size
        table = table.slice(0, len(table) // size * size if part is work.plan.parts[-1] else len(table))
        if not len(table):
            continue
        columns = {
            name: pa.nulls(len(table), field.type)
            for name, field in zip(version.schema.names, version.schema, strict=True)
        }
        columns |= {name: table[name] for name in ("row", "image_id", "uri")}
        columns["status"] = pa.array(["ok"] * len(table))
        committer.add(pa.table(columns, schema=version.schema))
