"""`make bench`: all benchmarks that end in minutes on a laptop, each for a limited time.

    python -m tests.benchmarks.run                          # history.jsonl and the documents take the figures
    python -m tests.benchmarks.run --only vqa augment       # prints them alone
    python -m tests.benchmarks.run --against HEAD~1         # both in turns; says which ratio has lost over 10 %

Nothing else may run on the machine. `--against` measures the package of the other commit by the benchmarks of this one.
"""

import argparse
import datetime
import importlib.metadata
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.history import DOCUMENTS, ROOT, Record, append_record, show_newest
from tests.benchmarks.ratios import read_ratios

LOSS = 0.10  # a ratio that falls by more is said
VERSIONS = ("torch", "transformers", "timm", "ray", "pyarrow")


@dataclass(frozen=True)
class Benchmark:
    """A script, its words, and the minutes after which it is ended."""

    words: tuple[str, ...]
    minutes: float


BENCHMARKS = {
    "vqa": Benchmark(("bench_vqa.py", "--size", "base", "--rounds", "3", "--images", "4"), 12),
    "decoder": Benchmark(("bench_decoder.py", "--rounds", "3", "--threads", "2"), 4),
    "contrastive": Benchmark(("bench_contrastive.py", "--rounds", "3", "--images", "8"), 4),
    "decode": Benchmark(("bench_decode.py", "--rounds", "9"), 3),
    "augment": Benchmark(("bench_augment.py", "--rounds", "5"), 4),
    "label": Benchmark(("bench_label.py", "overlap", "--rounds", "2"), 4),
    "listing": Benchmark(("bench_listing.py",), 3),
    "predict": Benchmark(("bench_predict.py", "--backbone", "resnet18", "--rounds", "3", "--without-pipeline"), 4),
    "train": Benchmark(
        ("bench_train.py", "rates", "--workers", "1", "--rounds", "2", "--epochs", "3", "--images", "1000"), 12
    ),
    "search": Benchmark(("bench_search.py", "--small"), 6),
    "serve": Benchmark(("bench_serve.py", "--backbone", "vit-small", "--rounds", "2"), 6),
}


def main(words: list[str]) -> int:
    """Runs them; 1 if one failed or a ratio fell."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.run")
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), help="these alone, and nothing is written")
    parser.add_argument("--against", metavar="COMMIT", help="compare with it, and nothing is written")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each commit under --against")
    given = parser.parse_args(words)
    names = given.only or list(BENCHMARKS)
    if given.against:
        return compare(names, given.against, given.rounds)
    ratios: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for name in names:
        began = time.monotonic()
        ratios |= run_benchmark(name, BENCHMARKS[name], ROOT)
        seconds[name] = round(time.monotonic() - began)
    print("\n".join(f"{name:44}{value:8.3g}x" for name, value in sorted(ratios.items())), flush=True)
    failed = [name for name in names if not any(ratio.startswith(f"{name}.") for ratio in ratios)]
    if failed:
        print(f"no figure of: {', '.join(failed)}; nothing is written", file=sys.stderr)
        return 1
    if not given.only:
        record = Record(
            date=datetime.datetime.now(datetime.UTC).date().isoformat(),
            commit=describe_commit(),
            machine=describe_machine(),
            versions={name: importlib.metadata.version(name) for name in VERSIONS},
            ratios=ratios,
            seconds=seconds,
        )
        append_record(record)
        for document in DOCUMENTS:
            document.write_text(show_newest(document.read_text(encoding="utf-8"), record), encoding="utf-8")
    return 0


def run_benchmark(name: str, benchmark: Benchmark, checkout: Path) -> dict[str, float]:
    """The ratios of one benchmark with a checkout's package; none if it fails or takes too long, which is printed."""
    script, *words = benchmark.words
    command = [sys.executable, str(checkout / "tests" / "benchmarks" / script), *words]
    print(f"== {name}: {' '.join(benchmark.words)}", flush=True)
    env = os.environ | {"PYTHONPATH": str(checkout)}
    with subprocess.Popen(
        command, cwd=checkout, env=env, stdout=subprocess.PIPE, text=True, process_group=0
    ) as process:
        try:
            output, _ = process.communicate(timeout=60 * benchmark.minutes)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)  # after which a job ends its cluster
            try:
                output, _ = process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                output, _ = process.communicate()
            print(f"{output}{name} is ended: it took over {benchmark.minutes:g} minutes", flush=True)
            return {}
    print(output, end="", flush=True)
    if process.returncode != 0:
        print(f"{name} failed with code {process.returncode}", flush=True)
        return {}
    return read_ratios(output)


def compare(names: list[str], commit: str, rounds: int) -> int:
    """Runs this checkout and another commit in turns; 1 if a ratio fell by more than `LOSS` or cannot be compared."""
    lost = False
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        other = Path(scratch) / "other"
        subprocess.run(["git", "worktree", "add", "--detach", "--quiet", str(other), commit], cwd=ROOT, check=True)
        try:
            # The benchmarks of today measure both, so that a ratio means the same.
            shutil.rmtree(other / "tests")
            shutil.copytree(ROOT / "tests", other / "tests", ignore=shutil.ignore_patterns("__pycache__"))
            for name in names:
                turns = [
                    (run_benchmark(name, BENCHMARKS[name], ROOT), run_benchmark(name, BENCHMARKS[name], other))
                    for _ in range(rounds)
                ]
                lost |= not tell_change(name, [ours for ours, _ in turns], [theirs for _, theirs in turns], commit)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(other)], cwd=ROOT, check=True)
    return int(lost)


def tell_change(name: str, ours: list[dict[str, float]], theirs: list[dict[str, float]], commit: str) -> bool:
    """Prints each ratio beside that of the other commit; whether none fell by more than `LOSS`."""
    common = sorted(set.intersection(*(set(each) for each in (*ours, *theirs))))
    if not common:
        print(f"{name}: cannot be compared with {commit}", flush=True)
        return False
    kept = True
    for ratio in common:
        now, before = (statistics.median(each[ratio] for each in turns) for turns in (ours, theirs))
        fell = now < (1 - LOSS) * before
        kept &= not fell
        print(f"{ratio:44}{before:8.3g} -> {now:8.3g}  {now / before - 1:+.1%}{'  LOST' if fell else ''}", flush=True)
    return kept


def describe_commit() -> str:
    """The commit of the checkout; `+` at its end if files differ from it."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=ROOT, check=False).returncode
    return commit.stdout.strip() + ("+" if changed else "")


def describe_machine() -> str:
    """Processor and cores."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
