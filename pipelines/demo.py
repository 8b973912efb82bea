#!/usr/bin/env python
"""The whole chain on one machine, offline: a local S3 server, drawn faces, a tiny BLIP, labels, their quality.

Reads nothing; writes a folder with the report, the labels and the truth. The faces are drawings with known attributes,
and the model has learnt from such drawings alone: the figures say that the chain works, not how good BLIP is.

    python pipelines/demo.py --output demo-out
"""

import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
from sklearn.metrics import precision_recall_fscore_support

from faceattr.cli import run_job
from faceattr.data.exports import export_labels
from faceattr.data.runs import read_manifest, read_published
from faceattr.data.storage import Store, open_store
from faceattr.demo.faces import write_faces
from faceattr.demo.store import LocalS3, serve_s3
from faceattr.errors import RunError

ATTRIBUTES = ("hat", "glasses", "facial_hair")
# Three files that are no images, as every real bucket has some: they end as rows with a reason.
BROKEN = {"broken/empty.jpg": b"", "broken/page.jpg": b"<!doctype html><p>404", "broken/cut.jpg": b"\xff\xd8\xff\xe0"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Labels drawn faces in a local S3 bucket."""

    output: Path = Path("demo-out")
    """Folder for the report, the labels and the truth; what an earlier demo left there is replaced."""
    count: int = 600
    """Faces to draw."""
    seed: int = 2_000_000
    """Seed of the drawings; the tiny BLIP was trained on lower ones."""


def run_demo(config: DemoConfig) -> int:
    """Draws, uploads, labels, measures."""
    started = time.monotonic()
    config.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="faceattr-demo-") as scratch, serve_s3(Path(scratch) / "s3") as s3:
        os.environ.update(s3.environment)
        print(f"[1/4] an S3 server runs at {s3.endpoint_url}")
        truth = draw_and_upload(config, Path(scratch) / "faces", s3)
        print(f"[2/4] {config.count} drawn faces and {len(BROKEN)} broken files lie in s3://{s3.bucket}/raw/")
        print("[3/4] python pipelines/label.py --images s3://faces/raw/ --output s3://faces/labels/demo --model tiny")
        label_bucket(s3)
        run = open_store(f"s3://{s3.bucket}/labels/demo")
        print(f"[4/4] labels against the truth of the drawings\n{measure(run, truth)}")
        keep_results(run, config.output)
    print(f"open {config.output / 'report.html'}   ({time.monotonic() - started:.0f} s)")
    return 0


def draw_and_upload(config: DemoConfig, folder: Path, s3: LocalS3) -> pa.Table:
    """Draws faces, puts them into the bucket and gives their true attributes."""
    truth_path = write_faces(folder, config.count, config.seed)
    bucket = open_store(f"s3://{s3.bucket}/raw")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda path: bucket.put(path.name, path.read_bytes()), sorted(folder.glob("*.jpg"))))
        list(pool.map(lambda item: bucket.put(*item), BROKEN.items()))
    (config.output / "truth.csv").write_bytes(truth_path.read_bytes())
    return pyarrow.csv.read_csv(truth_path)


def label_bucket(s3: LocalS3) -> None:
    """Runs the label pipeline as a user would."""
    script = Path(__file__).parent / "label.py"
    flags = ["--images", f"s3://{s3.bucket}/raw/", "--output", f"s3://{s3.bucket}/labels/demo", "--model", "tiny"]
    finished = subprocess.run([sys.executable, str(script), *flags], check=False)
    if finished.returncode:
        raise RunError(f"pipelines/label.py ended with exit code {finished.returncode}")


def measure(run: Store, truth: pa.Table) -> str:
    """Precision, recall and F1 of each attribute, by sklearn."""
    labels = pa.concat_tables(read_published(run, ["image_id", *ATTRIBUTES]))
    ours = {row["image_id"]: row for row in labels.to_pylist()}
    lines = [f"{'':14}precision  recall    F1   images"]
    for name in ATTRIBUTES:
        pairs = [(row[name], ours[row["image_path"]][name]) for row in truth.to_pylist()]
        expected, found = zip(*((true, found) for true, found in pairs if found is not None), strict=True)
        precision, recall, f1, _ = precision_recall_fscore_support(expected, found, average="binary")
        lines.append(f"{name:14}{precision:9.3f}{recall:8.3f}{f1:8.3f}{len(found):7}")
    return "\n".join(lines)


def keep_results(run: Store, output: Path) -> None:
    """Copies the report and the labels out of the bucket, which ends with the demo."""
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
