"""`history.jsonl`, a line for each run of `make bench`, and the places in the documents that show the newest one."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

HISTORY = Path(__file__).parent / "history.jsonl"
ROOT = Path(__file__).parents[2]
DOCUMENTS = (ROOT / "docs" / "benchmarks.md", ROOT / "README.md")
# What a document shows of the newest run: the whole table, or the ratio of one name, as in `<!-- ratio vqa.x -->3.4x`.
_TABLE = re.compile(r"(<!-- newest run -->\n).*?(<!-- end of newest run -->)", re.DOTALL)
_ONE = re.compile(r"(<!-- ratio ([a-z0-9_.-]+) -->)[0-9.]+x")


@dataclass(frozen=True)
class Record:
    """One run of all benchmarks.

    Attributes:
        date: the day, ISO 8601, UTC.
        commit: what was measured; `+` at its end: with changes that were not committed.
        machine: processor and number of cores.
        versions: package -> version.
        ratios: name -> times the peer; more is better.
        seconds: benchmark -> how long it took.
    """

    date: str
    commit: str
    machine: str
    versions: dict[str, str]
    ratios: dict[str, float]
    seconds: dict[str, float]


def read_history(path: Path = HISTORY) -> list[Record]:
    """The records, the oldest first."""
    return [Record(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def append_record(record: Record, path: Path = HISTORY) -> None:
    """Adds a run."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(record), sort_keys=True) + "\n")


def show_newest(text: str, record: Record) -> str:
    """A document with the figures of a record in the places for them.

    Raises:
        KeyError: the document shows a ratio that the record lacks.
    """
    text = _TABLE.sub(lambda found: found[1] + render(record) + found[2], text)
    return _ONE.sub(lambda found: f"{found[1]}{record.ratios[found[2]]:.3g}x", text)


def render(record: Record) -> str:
    """The table of a record in Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in sorted(record.versions.items()))
    lines = [f"{record.date}, commit {record.commit}, {record.machine}; {versions}.", "", "| ratio | figure |"]
    lines += ["| --- | --- |", *(f"| `{name}` | {value:.3g}x |" for name, value in sorted(record.ratios.items()))]
    return "\n".join(lines) + "\n"
