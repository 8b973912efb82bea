#!/usr/bin/env python
"""Everything that a machine with a GPU can tell, in one command of at most eight minutes.

python tests/benchmarks/bench_gpu.py --output results                    # `make bench-gpu`
python tests/benchmarks/bench_gpu.py --output results --sections scorer training
python tests/benchmarks/bench_gpu.py --output results --small            # tiny sizes, also on a CPU, two minutes

Each section runs in a process of its own, for a limited time: if it fails, hangs or takes all memory, the others go
on, and what it had measured is kept. Sections that run whole pipelines need Ray, the others do not. Weights are random,
made here, blip-vqa-base in size; speed does not depend on them. It leaves results.json and RESULTS-<gpu>.md.
"""

import argparse
import contextlib
import importlib
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.benchmarks.gpu_report import Figure, NotPossibleError, Outcome, write_results
from tests.benchmarks.gpu_setting import Setting
from tests.benchmarks.stand_ins import is_installed, stand_in

_LIMIT_S = 8 * 60.0
# Processes get this long to end by themselves: a driver stops its cluster.
_GRACE_S = 10.0


@dataclass(frozen=True)
class Section:
    """A function in a module, imported when it runs: a version that lacks something loses only the sections with it."""

    module: str
    function: str
    limit_s: float
    needs_ray: bool = False


PREPARE = Section("tests.benchmarks.gpu_machine", "prepare", 60)
# The most important first: what is left when the time is up does not begin.
SECTIONS = {
    "scorer": Section("tests.benchmarks.gpu_scorer", "scorer", 70),
    "label": Section("tests.benchmarks.gpu_pipelines", "label", 130, needs_ray=True),
    "training": Section("tests.benchmarks.gpu_training", "training", 90),
    "predictor": Section("tests.benchmarks.gpu_training", "predictor", 35),
    "peers": Section("tests.benchmarks.gpu_scorer", "peers", 40),
    "fp8": Section("tests.benchmarks.gpu_scorer", "fp8", 35),
    "compiled": Section("tests.benchmarks.gpu_scorer", "compiled", 70),
    "predict": Section("tests.benchmarks.gpu_pipelines", "predict", 90, needs_ray=True),
    "kernels": Section("tests.benchmarks.gpu_scorer", "kernels", 20),
    "copy": Section("tests.benchmarks.gpu_scorer", "copy", 20),
    "feature_cache": Section("tests.benchmarks.gpu_training", "feature_cache", 20),
    "views": Section("tests.benchmarks.gpu_training", "views", 15),
    "one_rank": Section("tests.benchmarks.gpu_training", "one_rank", 30),
    "compiled_training": Section("tests.benchmarks.gpu_training", "compiled_training", 90),
}


def run_section(name: str, section: Section, setting: Setting) -> None:
    """In a process of its own: appends each figure to a file as soon as it is measured."""
    os.setsid()  # so that all that it starts can be ended with it
    with (setting.folder / f"{name}.log").open("wb") as log:
        os.dup2(log.fileno(), sys.stderr.fileno())
    function = getattr(importlib.import_module(section.module), section.function)
    with (setting.folder / f"{name}.jsonl").open("w", buffering=1) as lines:
        try:
            for figure in function(setting):
                lines.write(json.dumps(asdict(figure)) + "\n")
        except NotPossibleError as reason:
            lines.write(json.dumps({"left_out": str(reason)}) + "\n")


def measure(name: str, section: Section, setting: Setting, limit_s: float) -> Outcome:
    """Runs a section for a limited time, and reads what it measured."""
    if section.needs_ray and not is_installed("ray"):
        return Outcome(name=name, state="left out: Ray is not installed", seconds=0.0)
    if limit_s <= 0:
        return Outcome(name=name, state="left out: the time was up", seconds=0.0)
    started = time.perf_counter()
    process = multiprocessing.get_context("fork").Process(target=run_section, args=(name, section, setting))
    process.start()
    process.join(limit_s)
    is_late = process.is_alive()
    if is_late:
        assert process.pid is not None
        for each in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):  # the first was enough
                os.killpg(process.pid, each)
            process.join(_GRACE_S)
    path = setting.folder / f"{name}.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    reasons = [each["left_out"] for each in found if "left_out" in each]
    state = "ok"
    if is_late:
        state = f"stopped after {limit_s:.0f} s"
    elif process.exitcode:
        said = (setting.folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
        state = f"failed: {said[-1] if said else f'exit code {process.exitcode}'}"
    elif reasons:
        state = f"left out: {reasons[0]}"
    figures = [Figure(**each) for each in found if "left_out" not in each]
    return Outcome(name=name, state=state, seconds=time.perf_counter() - started, figures=figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--small", action="store_true", help="tiny sizes: shows that it runs, also on a CPU")
    given = parser.parse_args()
    stand_in()
    for package in ("torch", "transformers", "timm"):  # once, and not in each section; none of them starts a thread
        importlib.import_module(package)
    given.output.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + _LIMIT_S
    with tempfile.TemporaryDirectory(prefix="gpu-") as scratch:
        setting = Setting(folder=Path(scratch), small=given.small)
        first = measure("prepare", PREPARE, setting, PREPARE.limit_s)
        print(f"{first.name}: {first.state}", flush=True)
        if first.state != "ok":
            sys.exit(2)
        machine = json.loads((setting.folder / "machine.json").read_text())
        outcomes = [first]
        for name in given.sections:
            section = SECTIONS[name]
            outcomes.append(measure(name, section, setting, min(section.limit_s, until - time.monotonic())))
            print(f"{name}: {outcomes[-1].state}, {outcomes[-1].seconds:.0f} s", flush=True)
            for figure in outcomes[-1].figures:
                print(f"    {figure.name:52} {figure.value:12,.4g} {figure.unit}  {figure.note}", flush=True)
            path = write_results(given.output, machine, outcomes)
    print(path)


if __name__ == "__main__":
    main()
