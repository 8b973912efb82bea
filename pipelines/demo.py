#!/usr/bin/env python
"""The whole chain on one machine, offline, on drawn faces: label, pack, train, search, evaluate, predict.

Reads nothing; writes a folder with the reports, the labels and the truth. The faces are drawings with known attributes,
and the labelling model has learnt from such drawings alone: the figures say that the chain works, not how good it is on
photographs. Each step is a command of the README; it is shown before it runs.

    python pipelines/demo.py --output demo-out
"""

import dataclasses
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from faceattr.cli import run_job
from faceattr.data.exports import export_labels
from faceattr.data.runs import read_manifest, read_published
from faceattr.data.storage import open_store
from faceattr.demo.faces import write_faces
from faceattr.demo.side_by_side import describe_quality, measure_quality
from faceattr.demo.store import LocalS3, serve_s3
from faceattr.errors import RunError

ATTRIBUTES = ("hat", "glasses", "facial_hair")
# Three files that are no images, as every real bucket has some: they end as rows with a reason.
BROKEN = {"broken/empty.jpg": b"", "broken/page.jpg": b"<!doctype html><p>404", "broken/cut.jpg": b"\xff\xd8\xff\xe0"}
# A small network from random weights, since there is no hub: 2,000 drawings teach it in a minute.
STUDENT = (
    "--model.backbone resnet10t --model.args channels [16,32,64,128] --model.no-pretrained --model.image-size 64 "
    "--attributes hat glasses facial_hair --optim.lr 3e-3 --optim.weight-decay 0.05 --optim.warmup-epochs 1 "
    "--feed.batch-size 32"
)
S3 = "s3://faces"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Runs the chain on drawn faces in a local S3 bucket."""

    output: Path = Path("demo-out")
    """Folder for the reports, the labels and the truth; what an earlier demo left there is replaced."""
    count: int = 2_000
    """Faces to draw."""
    seed: int = 2_000_000
    """Seed of the drawings; the tiny BLIP was trained on lower ones."""
    epochs: int = 10
    """Passes of the student over its training faces."""


def run_demo(config: DemoConfig) -> int:
    """Draws, uploads, and runs the chain."""
    started = time.monotonic()
    config.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="faceattr-demo-") as scratch, serve_s3(Path(scratch) / "s3") as s3:
        os.environ.update(s3.environment)
        print(f"An S3 server runs at {s3.endpoint_url}")
        faces = Path(scratch) / "faces"
        truth = draw_and_upload(config, faces, s3)
        print(f"{config.count} drawn faces and {len(BROKEN)} broken files lie in {S3}/raw/")

        run_step("label", f"pipelines/label.py --images {S3}/raw/ --output {S3}/labels/run1 --model tiny")
        labels = pa.concat_tables(read_published(open_store(f"{S3}/labels/run1"), ["image_id", *ATTRIBUTES]))
        print(
            f"labels against the truth of the drawings\n{describe_quality(measure_quality(truth, labels, ATTRIBUTES))}"
        )

        run_step("pack", f"pipelines/pack.py --labels {S3}/labels/run1 --output {S3}/packed/run1")
        run_step(
            "train",
            f"pipelines/train.py --data {S3}/packed/run1 --output {S3}/models/m1 {STUDENT} "
            f"--optim.epochs {config.epochs} --workers.num-workers 2",
        )
        keep_results(config.output)
    print(f"open {config.output / 'index.html'}   ({time.monotonic() - started:.0f} s)")
    return 0


def draw_and_upload(config: DemoConfig, folder: Path, s3: LocalS3) -> pa.Table:
    """Draws faces, puts them into the bucket and gives their true attributes."""
    truth_path = write_faces(folder, config.count, config.seed, processes=os.cpu_count() or 1)
    bucket = open_store(f"s3://{s3.bucket}/raw")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda path: bucket.put(path.name, path.read_bytes()), sorted(folder.glob("*.jpg"))))
        list(pool.map(lambda item: bucket.put(*item), BROKEN.items()))
    (config.output / "truth.csv").write_bytes(truth_path.read_bytes())
    return pyarrow.csv.read_csv(truth_path)


def run_step(name: str, command: str) -> None:
    """Runs a script as a user would, and shows the command and its time."""
    print(f"\n[{name}] python {command}", flush=True)
    started = time.monotonic()
    script, *flags = shlex.split(command)
    finished = subprocess.run([sys.executable, str(Path(__file__).parents[1] / script), *flags], check=False)
    if finished.returncode:
        raise RunError(f"{script} ended with exit code {finished.returncode}")
    print(f"[{name}] {time.monotonic() - started:.0f} s", flush=True)


def keep_results(output: Path) -> None:
    """Copies the report and the labels out of the bucket, which ends with the demo."""
    run = open_store(f"{S3}/labels/run1")
    (output / "report.html").write_bytes(run.get("report.html"))
    export_labels(run, output / "labels.csv", export_format="csv")
    manifest = read_manifest(run)
    assert manifest is not None
    (output / "labels").mkdir(exist_ok=True)
    for old in (output / "labels").glob("*.parquet"):
        old.unlink()
    for file in manifest.files:
        (output / "labels" / Path(file.key).name).write_bytes(run.get(file.key))


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 failed, 2 wrong command."""
    return run_job(DemoConfig, run_demo, argv, __doc__)


if __name__ == "__main__":
    sys.exit(main())
