"""`make fuzz`: runs the fuzz targets for a bounded time, each in a process of its own.

With atheris the inputs follow the coverage of `faceattr` and of the Python libraries in between; where atheris is not
installed, hypothesis draws edits of the seeds. What the fuzzer found interesting stays in `fuzz-out/TARGET/` for next
time. An input that breaks a reader is written to `fuzz-out/`, and the command that repeats it is printed.
"""

import argparse
import importlib
import importlib.util
import subprocess
import sys
import time
from pathlib import Path

from tests.documents import ROOT

TARGETS = ("images", "manifests", "tables", "questions", "spaces", "configs", "run_files")
_OUTPUT = ROOT / "fuzz-out"
_MOST_BYTES = 16_384


def main(words: list[str]) -> int:
    """Runs targets one after the other; 1 if one was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run")
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], default=[], metavar="TARGET")
    parser.add_argument("--minutes", type=float, default=1.0, help="for each target")
    parser.add_argument("--repeat", type=Path, help="an input on which the target is run once")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.repeat is not None:
        load(given.targets[0]).run(given.repeat.read_bytes())
        return 0
    if given.inside:
        fuzz(given.targets[0], 60 * given.minutes)
        return 0
    broken = []
    for name in given.targets or TARGETS:
        print(f"fuzz target={name} minutes={given.minutes:g}", flush=True)
        before = set(_OUTPUT.glob(f"{name}-*"))
        inside = [sys.executable, "-m", "tests.fuzz.run", name, "--inside", "--minutes", str(given.minutes)]
        if subprocess.run(inside, cwd=ROOT, check=False).returncode:
            broken.append(name)
            for path in sorted(set(_OUTPUT.glob(f"{name}-*")) - before):
                print(f"repeat it: python -m tests.fuzz.run {name} --repeat {path}")
    print(f"fuzz done: broken={broken or 'none'}")
    return int(bool(broken))


def load(name: str):
    """The target of a file of this folder."""
    return importlib.import_module(f"tests.fuzz.{name}").TARGET


def fuzz(name: str, seconds: float) -> None:
    """Fuzzes one target in this process; ends it on the first finding."""
    _OUTPUT.mkdir(exist_ok=True)
    if importlib.util.find_spec("atheris") is None:
        draw_inputs(name, seconds)
        return
    import atheris

    with atheris.instrument_imports(include=["faceattr", "yaml", "PIL"], enable_loader_override=False):
        target = load(name)
    corpus = _OUTPUT / name
    corpus.mkdir(exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number:03d}").write_bytes(seed)
    words = _OUTPUT / f".{name}.words"
    words.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in target.words))
    flags = [
        f"-max_total_time={seconds:.0f}",
        "-timeout=10",
        "-rss_limit_mb=3000",
        f"-max_len={_MOST_BYTES}",
        "-len_control=0",
    ]
    flags += [f"-dict={words}", f"-artifact_prefix={_OUTPUT}/{name}-", "-print_final_stats=1", "-verbosity=1"]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], target.run)
    atheris.Fuzz()


def draw_inputs(name: str, seconds: float) -> None:
    """Runs a target on inputs that hypothesis draws, until the time is over."""
    from hypothesis import HealthCheck, given, settings

    from tests.fuzz.target import inputs

    target = load(name)
    until = time.monotonic() + seconds

    @settings(max_examples=500, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(inputs(target))
    def check(data: bytes) -> None:
        last = _OUTPUT / f"{name}-last"
        last.write_bytes(data)  # also there if the process dies
        target.run(data)
        last.unlink()

    while time.monotonic() < until:
        check()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
