"""Where the seconds between a command and its first result go: the timelines of label, train and search in one table.

Each command is started as a user starts it, in a fresh process, on drawn faces in a local folder, with the dashboard.
Seconds are wall clock since the command's start, so nothing else may run on the machine; the disk is warm from the
second round on.

python tests/benchmarks/bench_start.py --rounds 2
python tests/benchmarks/bench_start.py --commands label --rounds 3
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from faceattr.demo.faces import write_faces

ROOT = Path(__file__).parents[2]
COMMANDS = {
    "label": "pipelines/label.py --model tiny --images {here}/faces --output {here}/labels{round}",
    "pack": "pipelines/pack.py --labels {here}/labels0 --output {here}/packed",
    "train": "pipelines/train.py --preset demo --data {here}/packed --output {here}/model{round}",
    "search": "tune/search.py --data {here}/packed --output {here}/search{round} --space demo "
    "--train demo --num-samples 4",
}
# Command -> milestone (process, name) -> the goal in seconds, on two cores.
GOALS = {
    "label": {("driver", "first_block"): 10, ("driver", "done"): 15},
    "train": {("train_worker", "first_step"): 20},
    "search": {("trial", "first_epoch"): 25, ("trial", "all_epochs"): 25},
}
_LINE = re.compile(r"timeline seconds=(\S+) process=(\S+) pid=(\d+) reached=(\S+)$", re.MULTILINE)


def run(command: str) -> tuple[list[tuple[float, str, str]], float]:
    """Runs a script; gives (seconds, process, milestone) of its timeline, and the seconds that it took altogether."""
    started = time.monotonic()
    finished = subprocess.run(
        [sys.executable, *shlex.split(command)],
        cwd=ROOT,
        env=os.environ | {"FACEATTR_LOG_LEVEL": "DEBUG", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        sys.exit(f"{command}\n{finished.stderr[-3000:]}")
    found = [(float(seconds), process, name) for seconds, process, _, name in _LINE.findall(finished.stderr)]
    return found, time.monotonic() - started


def table(name: str, number: int, found: list[tuple[float, str, str]], whole: float) -> Iterator[str]:
    """One row for each milestone: when the first process reached it, when the last, of how many."""
    times: dict[tuple[str, str], list[float]] = {}
    for seconds, process, milestone in found:
        times.setdefault((process, milestone), []).append(seconds)
    for (process, milestone), seconds in times.items():
        goal = GOALS.get(name, {}).get((process, milestone))
        yield (
            f"{name:8}{number:5}  {process:13}{milestone:22}{seconds[0]:8.1f}{seconds[-1]:8.1f}{len(seconds):4}  "
            + (f"goal {goal}" if goal is not None else "")
        ).rstrip()
    yield f"{name:8}{number:5}  whole command, with the interpreter's end{whole:10.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", nargs="+", choices=("label", "train", "search"), default=list(GOALS))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--images", type=int, default=300)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="faceattr-start-") as here:
        write_faces(Path(here) / "faces", given.images, 7, processes=os.cpu_count() or 1)
        (Path(here) / "faces" / "truth.csv").unlink()
        print(
            f"{'command':8}{'round':>5}  {'process':13}{'milestone':22}{'first s':>8}{'last s':>8}{'n':>4}", flush=True
        )
        for number in range(given.rounds):
            # The others need its labels, so it runs once in any case.
            for name in ["label", *given.commands] if number == 0 and "label" not in given.commands else given.commands:
                found, whole = run(COMMANDS[name].format(here=here, round=number))
                print("\n".join(table(name, number, found, whole)), flush=True)
                if name == "label" and number == 0:
                    run(COMMANDS["pack"].format(here=here))


if __name__ == "__main__":
    main()
