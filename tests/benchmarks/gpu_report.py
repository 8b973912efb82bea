"""What `bench_gpu.py` writes: figures as JSON, and the same as tables to read.

results.json        {"machine": {...}, "sections": [{"name", "state", "seconds", "figures": [...]}]}
RESULTS-<gpu>.md    a table for each section; one that failed or was left out says why
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


class NotPossibleError(Exception):
    """A section cannot run here; the text says why."""


@dataclass(frozen=True)
class Figure:
    """One measured value; `note` says how to read it."""

    name: str
    value: float
    unit: str
    note: str = ""


@dataclass(kw_only=True)
class Outcome:
    """How a section ended: `ok`, or why it has no figures or not all of them."""

    name: str
    state: str
    seconds: float
    figures: list[Figure] = field(default_factory=list)


def write_results(folder: Path, machine: Mapping[str, object], outcomes: Sequence[Outcome]) -> Path:
    """Writes both files and gives the path of the one to read."""
    content = {"machine": dict(machine), "sections": [asdict(each) for each in outcomes]}
    (folder / "results.json").write_text(json.dumps(content, indent=1) + "\n")
    name = re.sub(r"[^A-Za-z0-9]+", "-", str(machine["gpu"]).removeprefix("NVIDIA "))
    path = folder / f"RESULTS-{name}.md"
    path.write_text(render(machine, outcomes))
    return path


def render(machine: Mapping[str, object], outcomes: Sequence[Outcome]) -> str:
    """Returns the results as Markdown."""
    lines = [f"# Measured on {machine['gpu']}", "", ", ".join(f"{key} {value}" for key, value in machine.items()), ""]
    for each in outcomes:
        lines += [f"## {each.name}", "", f"{each.state}; {each.seconds:.0f} s", ""]
        if each.figures:
            lines += ["| what | figure | |", "| --- | --- | --- |"]
            lines += [f"| {one.name} | {_shown(one.value)} {one.unit} | {one.note} |" for one in each.figures]
            lines.append("")
    return "\n".join(lines)


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
