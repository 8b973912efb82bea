"""What a process loads before it needs it: in a fresh one, heavy packages are absent from `sys.modules`.

Each is a second or more of processor time, in every process of a run, before the first image.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLOTS = {"matplotlib"}
STATISTICS = {"sklearn", "scipy"}
TORCH = {"torch", "torchvision"}
TRANSFORMERS = {"transformers", "peft", "accelerate"}
MODELS = {*TRANSFORMERS, "timm"}
# Script, or module that a kind of process imports -> packages that it must not load.
ABSENT = {
    "pipelines/label.py": {*PLOTS, *STATISTICS, *TORCH, *MODELS},
    "pipelines/predict.py": {*PLOTS, *STATISTICS, *TORCH, *MODELS},
    "pipelines/pack.py": {*PLOTS, *STATISTICS, *TORCH, *MODELS},
    "pipelines/train.py": {*PLOTS, *TRANSFORMERS, "sklearn"},
    "tune/search.py": {*PLOTS, *TRANSFORMERS},
    # The process that decodes; the stages that read and decode; the resize; the actors, without their models.
    "faceattr.data.images.decoder_child": {*PLOTS, *STATISTICS, *TORCH, *MODELS, "ray", "pandas", "pyarrow"},
    "faceattr.jobs.images.read": {*PLOTS, *STATISTICS, *TORCH, *MODELS},
    "faceattr.jobs.images.decode": {*PLOTS, *STATISTICS, *TORCH, *MODELS},
    "faceattr.vqa.blip.preprocess": {*PLOTS, *STATISTICS, *MODELS, "torchvision"},
    "faceattr.vqa.decoder.preprocess": {*PLOTS, *STATISTICS, *MODELS, "torchvision"},
    "faceattr.vqa.decoder.inspect": {*PLOTS, *STATISTICS, *TORCH, *MODELS},
    "faceattr.jobs.images.actors.label_actor": {*PLOTS, *STATISTICS, *TORCH, *MODELS},
    "faceattr.jobs.images.actors.predict_actor": {*PLOTS, *TRANSFORMERS},
    # What ends a label run.
    "faceattr.reports.label": {*STATISTICS, *TORCH, *MODELS},
    # Training: reading and decoding, surveying, Ray Train's controller, its workers; trials.
    "faceattr.jobs.train.stages": {*PLOTS, *STATISTICS, *MODELS},
    "faceattr.jobs.train.survey": {*PLOTS, *STATISTICS, *MODELS, "torchvision"},
    "faceattr.jobs.train.ending": {*PLOTS, *STATISTICS, *MODELS, "torchvision", "ray"},
    "faceattr.jobs.train.worker": {*PLOTS, *TRANSFORMERS, "sklearn"},
    "faceattr.jobs.search.worker": {*PLOTS, *TRANSFORMERS},
}
CODE = """
import importlib, runpy, sys
name = sys.argv[1]
runpy.run_path(name, run_name="imported") if name.endswith(".py") else importlib.import_module(name)
print(" ".join({each.partition(".")[0] for each in sys.modules}))
"""


# What begins first, and most often. The others are seconds each to import; `make test-all` looks at them.
FIRST = (
    "faceattr.reports.label",
    "faceattr.data.images.decoder_child",
    "faceattr.jobs.images.decode",
    "faceattr.jobs.images.actors.label_actor",
)
CASES = [name if name in FIRST else pytest.param(name, marks=pytest.mark.long) for name in ABSENT]


@pytest.mark.parametrize("name", CASES)
def test_heavy_packages_are_not_loaded_before_they_are_needed(name):
    command = [sys.executable, "-c", CODE, name]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    loaded = subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, text=True).stdout.split()
    assert "faceattr" in loaded
    assert ABSENT[name] & set(loaded) == set()
