"""`bench_gpu.py` is ready for a machine with a GPU: sections are independent, and most do without Ray and S3."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks.bench_gpu import SECTIONS, Section, measure
from tests.benchmarks.gpu_report import Figure, NotPossibleError, Outcome, render
from tests.benchmarks.gpu_setting import Setting

ROOT = Path(__file__).parents[1]

# A machine without these packages.
BARE = """
import sys
ABSENT = {"ray", "boto3", "botocore", "torchjd", "fairlearn"}

class Absent:
    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {fullname!r}")

sys.meta_path.insert(0, Absent())
import runpy
runpy.run_path("tests/benchmarks/bench_gpu.py", run_name="__main__")
"""


def works(setting: Setting) -> Iterator[Figure]:
    yield Figure("one", 1.0, "images/s")


def fails(setting: Setting) -> Iterator[Figure]:
    yield Figure("one", 1.0, "images/s")
    raise ValueError("no such kernel")


def hangs(setting: Setting) -> Iterator[Figure]:
    yield Figure("one", 1.0, "images/s")
    threading.Event().wait()


def cannot(setting: Setting) -> Iterator[Figure]:
    raise NotPossibleError("not supported by this version")
    yield


@pytest.mark.parametrize(
    ("function", "limit_s", "state", "num_figures"),
    [
        ("works", 60.0, "ok", 1),
        ("fails", 60.0, "failed: ValueError: no such kernel", 1),
        ("hangs", 2.0, "stopped after 2 s", 1),
        ("cannot", 60.0, "left out: not supported by this version", 0),
        ("works", -1.0, "left out: the time was up", 0),
    ],
)
def test_a_section_that_ends_badly_keeps_what_it_measured(tmp_path, function, limit_s, state, num_figures):
    setting = Setting(folder=tmp_path, small=True)
    outcome = measure(function, Section(__name__, function, limit_s), setting, limit_s)
    assert (outcome.state, len(outcome.figures)) == (state, num_figures)


def test_the_results_to_read():
    outcomes = [
        Outcome(name="scorer", state="ok", seconds=12.4, figures=[Figure("3 questions", 2341.2, "images/s", "46%")]),
        Outcome(name="fp8", state="left out: not supported", seconds=0.0),
    ]
    text = render({"gpu": "NVIDIA H200", "cores": 16}, outcomes)
    assert "# Measured on NVIDIA H200\n\ngpu NVIDIA H200, cores 16" in text
    assert (
        "## scorer\n\nok; 12 s\n\n| what | figure | |\n| --- | --- | --- |\n| 3 questions | 2,341 images/s | 46% |"
        in text
    )
    assert "## fp8\n\nleft out: not supported; 0 s" in text


@pytest.mark.long
def test_sections_without_ray_run_on_a_bare_machine(tmp_path):
    bare = [name for name, section in SECTIONS.items() if not section.needs_ray]
    command = [sys.executable, "-c", BARE, "--output", str(tmp_path), "--small", "--sections", *bare, "label"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=500)
    sections = {each["name"]: each for each in json.loads((tmp_path / "results.json").read_text())["sections"]}
    assert sections.pop("label")["state"] == "left out: Ray is not installed"
    for name, section in sections.items():
        unsupported = section["state"].startswith("left out: not supported by this version")
        assert unsupported or (section["state"] == "ok" and section["figures"]), (name, section["state"])
    assert (tmp_path / "RESULTS-CPU.md").read_text().startswith("# Measured on CPU\n")
