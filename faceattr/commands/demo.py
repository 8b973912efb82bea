"""`faceattr demo`: the whole chain on one machine, offline, on drawn faces."""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.csv

from faceattr.data.exports import export_labels
from faceattr.data.packed.reader import open_packed
from faceattr.data.runs.version import read_manifest, read_published
from faceattr.data.stores.open import open_store
from faceattr.demo.faces import write_faces
from faceattr.demo.reviewer import describe_audit, judge_by_truth
from faceattr.demo.side_by_side import describe_quality, measure_quality, write_side_by_side
from faceattr.demo.store import LocalS3, serve_s3
from faceattr.errors import RunError
from faceattr.interrupt import EXIT_CODE, is_told

ATTRIBUTES = ("hat", "glasses", "facial_hair")
# Three files that are not images, as every real bucket has some: each becomes a row with the reason.
BROKEN = {"broken/empty.jpg": b"", "broken/page.jpg": b"<!doctype html><p>404", "broken/cut.jpg": b"\xff\xd8\xff\xe0"}
S3 = "s3://faces"
# Seconds for which a stopped step is waited for.
_STOPS_WITHIN_S = 60.0
# The chain as a user would type it, but without the hub: `tiny` and `demo` are a model and a preset for drawn faces.
STEPS = {
    "label": f"faceattr label --images {S3}/raw/ --output {S3}/labels/run1 --model tiny",
    "audit": f"faceattr audit sample {S3}/labels/run1 --output {{output}}/audit --budget 400",
    "apply": "faceattr audit apply {output}/audit",
    "pack": f"faceattr pack --labels {S3}/labels/run1 --output {S3}/packed/run1",
    "train": f"faceattr train --preset demo --data {S3}/packed/run1 --output {S3}/models/m1 --workers.num-workers 2",
    "search": f"faceattr search --data {S3}/packed/run1 --output {S3}/search/s1 --space demo "
    f"--train demo --set model.checkpoint={S3}/models/m1 --num-samples 8",
    "eval": f"faceattr evaluate --model {S3}/models/m1 --data {S3}/packed/run1 --output {S3}/eval/m1",
    "predict": f"faceattr predict bucket --model {S3}/eval/m1/model --images {S3}/raw/ --output {S3}/predictions/m1 "
    f"--labels {S3}/labels/run1",
}
# Report pages of the runs, and the file names that the demo gives them.
PAGES = {
    "label": ("labels/run1/report.html", "label-report.html"),
    "train": ("models/m1/report.html", "train-report.html"),
    "search": ("search/s1/report.html", "search-report.html"),
    "eval": ("eval/m1/report.html", "eval-report.html"),
    "predict": ("predictions/m1/report.html", "predict-report.html"),
}


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Runs the whole chain on drawn faces in a local S3 bucket: label, audit, pack, train, search, evaluate, predict.

    Reads nothing; writes a folder with the reports, the labels and the true attributes. The faces are drawings with
    known attributes, and the labelling model was trained on such drawings only: the metrics show that the chain works,
    not how good it is on photographs. Each step is a command of the README; it is shown before it runs.
    """

    output: Path = Path("demo-out")
    """Folder for the reports, the labels and the true attributes; the results of an earlier demo in it are replaced."""
    count: int = 2_000
    """Number of faces to draw."""
    seed: int = 2_000_000
    """Random seed of the drawings; the tiny BLIP was trained on lower seeds."""
    last_step: Literal["label", "audit", "apply", "pack", "train", "search", "eval", "predict"] = "predict"
    """The last step to run."""

    def __call__(self) -> int:
        """Runs the steps."""
        return run_demo(self)


def run_demo(config: Demo) -> int:
    """Draws faces, uploads them, runs the chain, and copies the reports and labels to the output folder."""
    started = time.monotonic()
    config.output.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(config.output / "audit", ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="faceattr-demo-") as scratch, serve_s3(Path(scratch) / "s3") as s3:
        os.environ.update(s3.environment)
        print(f"An S3 server runs at {s3.endpoint_url}")
        truth = draw_and_upload(config, Path(scratch) / "faces", s3)
        print(f"{config.count} drawn faces and {len(BROKEN)} broken files are in {S3}/raw/")
        names = list(STEPS)
        done = names[: names.index(config.last_step) + 1]
        for name in done:
            run_step(name, STEPS[name].format(output=config.output))
            if name == "label":
                labels = keep_labels(config.output)
                qualities = measure_quality(truth, labels, ATTRIBUTES)
                print(f"labels against the truth of the drawings\n{describe_quality(qualities)}")
            if name == "audit":
                count = judge_by_truth(config.output / "audit", truth)
                print(f"a reviewer who knows the drawings judged {count} items")
            if name == "apply":
                print(describe_audit(config.output / "audit", qualities))
        for name in done:
            if name in PAGES:
                key, file = PAGES[name]
                (config.output / file).write_bytes(open_store(S3).get(key))
        page = config.output / PAGES["label"][1]
        if "predict" in done:
            page = config.output / "index.html"
            show_side_by_side(config, truth, labels, Path(scratch) / "faces", page)
    print(f"open {page}   ({time.monotonic() - started:.0f} s)")
    return 0


def draw_and_upload(config: Demo, folder: Path, s3: LocalS3) -> pa.Table:
    """Draws faces, uploads them to the bucket and returns their true attributes."""
    truth_path = write_faces(folder, config.count, config.seed, processes=os.cpu_count() or 1)
    bucket = open_store(f"s3://{s3.bucket}/raw")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda path: bucket.put(path.name, path.read_bytes()), sorted(folder.glob("*.jpg"))))
        list(pool.map(lambda item: bucket.put(*item), BROKEN.items()))
    (config.output / "truth.csv").write_bytes(truth_path.read_bytes())
    return pyarrow.csv.read_csv(truth_path)


def run_step(name: str, command: str) -> None:
    """Runs a command of `faceattr` as a user would; prints it and its duration."""
    print(f"\n[{name}] {command}", flush=True)
    started = time.monotonic()
    _, *words = shlex.split(command)
    with subprocess.Popen([sys.executable, "-m", "faceattr", *words]) as step:
        try:
            code = step.wait()
        except KeyboardInterrupt:  # of a terminal, which stops the step as well: it says so, and needs a moment
            code = step.wait(_STOPS_WITHIN_S)
            is_told()
            raise
    if code == EXIT_CODE:
        is_told()
        raise KeyboardInterrupt
    if code:
        raise RunError(f"`{command}` ended with exit code {code}")
    print(f"[{name}] {time.monotonic() - started:.0f} s", flush=True)


def keep_labels(output: Path) -> pa.Table:
    """Copies the labels from the bucket, which ends with the demo, to the output folder and returns them."""
    run = open_store(f"{S3}/labels/run1")
    export_labels(run, output / "labels.csv", export_format="csv")
    manifest = read_manifest(run)
    assert manifest is not None
    shutil.rmtree(output / "labels", ignore_errors=True)
    (output / "labels").mkdir()
    for file in manifest.files:
        (output / "labels" / Path(file.key).name).write_bytes(run.get(file.key))
    return pa.concat_tables(read_published(run, ["image_id", *ATTRIBUTES]))


def show_side_by_side(config: Demo, truth: pa.Table, labels: pa.Table, faces: Path, page: Path) -> None:
    """Writes the true attributes, BLIP's labels and the trained model's predictions of held-out faces side by side."""
    columns = ["image_id", *ATTRIBUTES, *(f"{name}_score" for name in ATTRIBUTES)]
    predictions = pa.concat_tables(read_published(open_store(f"{S3}/predictions/m1"), columns))
    packed = open_packed([f"{S3}/packed/run1"])
    held_out = {name for table in packed.iter_split("test", ["image_id"]) for name in table["image_id"].to_pylist()}
    pictures = {name: (faces / name).read_bytes() for name in held_out}
    links = {f"{name} report": file for name, (_, file) in PAGES.items()}
    write_side_by_side(
        page,
        truth=truth,
        labels=labels,
        predictions=predictions,
        attributes=ATTRIBUTES,
        held_out=held_out,
        pictures=pictures,
        links=links,
    )
    seen = truth.filter(pa.array([name in held_out for name in truth["image_path"].to_pylist()]))
    qualities = measure_quality(seen, predictions, ATTRIBUTES)
    print(f"\nthe student against the truth, on {len(held_out)} test faces\n{describe_quality(qualities)}")
