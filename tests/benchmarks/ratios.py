"""A ratio as a benchmark tells it and as `make bench` reads it: one line of standard output, `ratio NAME VALUE`."""

import re

_LINE = re.compile(r"^ratio ([a-z0-9_.-]+) ([0-9.e+-]+)$", re.MULTILINE)


def tell_ratio(name: str, value: float) -> None:
    """Prints a ratio of ours against its peer, measured in turns in this run.

    Args:
        name: `BENCHMARK.WHAT`, in lower case, the same in every later commit: the history goes by it.
        value: how many times the peer's speed, or share of an ideal. More is better.
    """
    line = f"ratio {name} {value:.4g}"
    if not _LINE.match(line):
        raise ValueError(f"{line!r} is not the line of a ratio")
    print(line, flush=True)


def read_ratios(output: str) -> dict[str, float]:
    """Name -> value of the ratios in what a benchmark printed."""
    return {name: float(value) for name, value in _LINE.findall(output)}
