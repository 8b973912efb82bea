"""Sections of `bench_gpu.py` on whole runs, which need Ray: labelling and prediction with one and with two actors."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from faceattr.data.runs.limit import describe_limit, read_waited_for
from tests.benchmarks.gpu_busy import BusyGpu
from tests.benchmarks.gpu_report import Figure
from tests.benchmarks.gpu_setting import Setting
from tests.benchmarks.gpu_training import build
from tests.benchmarks.label_runs import ROOT, finish, make_images, start_label
from tests.benchmarks.steady import steady_rate

QUESTIONS = """attributes:
  hat: {questions: ["is the person wearing a hat?"]}
  glasses: {questions: ["is the person wearing glasses?"]}
  beard: {questions: ["is there a beard on the face?"]}
"""
Start = Callable[[Path, list[str]], subprocess.Popen[bytes]]


def label(setting: Setting) -> Iterator[Figure]:
    """`pipelines/label.py` on JPEGs of 224 px, 3 attributes."""
    questions = setting.folder / "questions.yaml"
    questions.write_text(QUESTIONS)
    images = make_images(setting.folder / "label-images", setting.pick(12_000, 200))

    def start(output: Path, flags: list[str]) -> subprocess.Popen[bytes]:
        return start_label(images, output, setting.model, "--attributes", str(questions), *flags)

    yield from _runs("label", start, setting)


def predict(setting: Setting) -> Iterator[Figure]:
    """`pipelines/predict.py` on JPEGs of 224 px with a ResNet-50."""
    model = setting.folder / "student"
    build("resnet50", setting).eval().save_pretrained(model)
    images = make_images(setting.folder / "predict-images", setting.pick(20_000, 200))

    def start(output: Path, flags: list[str]) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(ROOT / "pipelines" / "predict.py"), "--images", str(images)]
        command += ["--output", str(output), "--model", str(model), "--ray.no-dashboard", *flags]
        with (setting.folder / "label.log").open("ab") as log:  # where `finish` looks
            return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)

    yield from _runs("predict", start, setting)


def _runs(name: str, start: Start, setting: Setting) -> Iterator[Figure]:
    """Runs with one and with two actors on the GPU; with `small`, with one on a core."""
    on_gpu, block_rows = setting.device.type == "cuda", setting.pick(256, 16)
    for actors in (1,) if setting.small else (1, 2):
        output = setting.folder / f"{name}-{actors}"
        flags = ["--workers.max-actors", str(actors), "--workers.block-rows", str(block_rows)]
        flags += ["--workers.gpus-per-actor", str(1 / actors)] if on_gpu else ["--ray.object-store-mb", "200"]
        started_s = time.time()
        with BusyGpu() as gpu:
            finish(start(output, flags), output)
        took_s = time.time() - started_s
        (session,) = (json.loads(path.read_text()) for path in (output / "sessions").iterdir())
        waited = read_waited_for([session])
        rate = steady_rate(output, workers=actors, block_rows=block_rows)
        first_s, last_s = (session["started"] + session["samples"][place][0] for place in (0, -1))
        what = f"{actors} actor{'s' if actors > 1 else ''}"
        yield Figure(what, rate, "images/s", describe_limit(waited) if waited else "")
        yield Figure(f"{what}, first rows after the command", first_s - started_s, "s", f"of {took_s:.0f} s in all")
        busy = gpu.mean(first_s, last_s)
        if busy is not None:
            yield Figure(f"{what}, GPU busy once it runs", 100 * busy, "%")
