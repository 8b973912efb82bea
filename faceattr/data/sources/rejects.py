"""Rows that a source could not use: counted by reason, with a few examples, never silently gone."""

from dataclasses import dataclass, field

from faceattr.data.inputs.folder_files import FolderFiles, describe_files
from faceattr.data.stores.addresses import find_credentials
from faceattr.errors import escape

MAX_EXAMPLES = 3
# The reason of a row that stops the command, and is never shown: it holds credentials.
REFUSED_WITH_CREDENTIALS = "credentials"
_MAX_TEXT = 120


class BadRow(Exception):  # noqa: N818 - it is data about one row, not a failure of the program
    """One row cannot be used. Raised by a layout's parser, caught where its rows are counted.

    Attributes:
        reason: one word: `columns`, `value`, `path`, `parts`, `entry`, `no_label`, `encoding`, or a label run's status.
        detail: what was found and what was expected.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, kw_only=True)
class RejectExample:
    """One rejected row.

    Attributes:
        where: file, or folder for layouts without one.
        line: counted from 1; None where rows are file names.
        text: the row as found, shortened.
        detail: what is wrong with it.
    """

    where: str
    line: int | None
    text: str
    detail: str

    def __str__(self) -> str:
        line = "" if self.line is None else f" line {self.line}"
        return f"{escape(self.where)}{line}: {escape(self.detail)}: {self.text!r}"


@dataclass
class Rejects:
    """Counts of what was not taken as it stands.

    Attributes:
        counts: rejected rows by reason.
        examples: up to MAX_EXAMPLES of each reason, the first ones met.
        repairs: known damage that was undone, or found and lived with, by kind; no row is lost by it.
        files: of folders whose files are the rows: what is in them and is no image.
    """

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[RejectExample]] = field(default_factory=dict)
    repairs: dict[str, int] = field(default_factory=dict)
    files: FolderFiles = field(default_factory=FolderFiles)

    @property
    def total(self) -> int:
        """Rejected rows."""
        return sum(self.counts.values())

    def reject(self, problem: BadRow, *, where: str, line: int | None, text: str) -> None:
        """Counts a row that is left out."""
        self.counts[problem.reason] = self.counts.get(problem.reason, 0) + 1
        shown = self.examples.setdefault(problem.reason, [])
        if len(shown) < MAX_EXAMPLES:
            if find_credentials(text) is not None:
                text = "(not shown, since it holds credentials)"
            brief = text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 3]}..."
            shown.append(RejectExample(where=where, line=line, text=brief, detail=problem.detail))

    def repair(self, kind: str) -> None:
        """Counts a known damage that cost no row."""
        self.repairs[kind] = self.repairs.get(kind, 0) + 1

    def describe(self) -> str:
        """What the user reads: one line a reason, its examples below it; empty if there is nothing to say."""
        lines = []
        for reason, count in sorted(self.counts.items()):
            lines.append(f"rejected {count:,} rows: {reason}")
            lines += [f"  {example}" for example in self.examples[reason]]
        lines += [f"repaired {count:,} times: {kind}" for kind, count in sorted(self.repairs.items())]
        return "\n".join([*lines, *describe_files(self.files.to_json())])
