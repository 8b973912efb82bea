"""What every source of labels yields: tables of `source_schema`, and the rows that could not be used.

Rejected rows are counted by reason, with a few examples; none is dropped silently.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa

from faceattr.attributes import AttributeSet
from faceattr.data.inputs.folder_files import FolderFiles, describe_files
from faceattr.data.label_columns import LabelRow, source_schema
from faceattr.data.runs.run_attributes import Decision
from faceattr.data.stores.addresses import find_credentials
from faceattr.errors import ConfigError, escape

MAX_EXAMPLES = 3
# The reason of a row that stops the command and is never shown: it contains credentials.
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
        where: its file, or the folder for layouts without a file.
        line: line number from 1; None if rows are file names.
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
    """Counts of rows that were rejected or repaired.

    Attributes:
        counts: rejected rows by reason.
        examples: up to MAX_EXAMPLES of each reason, the first ones found.
        repairs: damaged values that were repaired or tolerated, by kind; the row is kept.
        files: for folders whose files are the rows, the files that are not images.
    """

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[RejectExample]] = field(default_factory=dict)
    repairs: dict[str, int] = field(default_factory=dict)
    files: FolderFiles = field(default_factory=FolderFiles)

    @property
    def total(self) -> int:
        """Number of rejected rows."""
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
        """Counts known damage that did not cost the row."""
        self.repairs[kind] = self.repairs.get(kind, 0) + 1

    def describe(self) -> str:
        """Returns the summary for the user: one line per reason, with examples below it; empty if there is nothing."""
        lines = []
        for reason, count in sorted(self.counts.items()):
            lines.append(f"rejected {count:,} rows: {reason}")
            lines += [f"  {example}" for example in self.examples[reason]]
        lines += [f"repaired {count:,} times: {kind}" for kind, count in sorted(self.repairs.items())]
        return "\n".join([*lines, *describe_files(self.files.to_json())])


_BATCH_ROWS = 8_192


@dataclass(frozen=True, kw_only=True)
class SourceLabels:
    """The labels of one source.

    Attributes:
        kind: kind of source, as in `registry.SOURCE_KINDS`.
        where: what was read, for messages.
        image_root: URI that the images are below.
        attributes: attributes of the columns, with class order; rules of a label run are plain binary attributes here.
        read: starts a new pass over the rows; rejected ones go to the given `Rejects`.
        scored: names of the attributes with soft scores.
        bytes_column: for label runs over packed Parquet, the column that contains the images.
        decisions: attribute (with the prefix `<source>/` if several are combined) to how its teacher turned scores into
            labels, if that is unusual; the scores here are recentred.
    """

    kind: str
    where: str
    image_root: str
    attributes: AttributeSet
    read: Callable[[Rejects], Iterator[pa.Table]] = field(repr=False)
    scored: frozenset[str] = frozenset()
    bytes_column: str | None = None
    decisions: Mapping[str, Decision] = field(default_factory=dict)

    @property
    def schema(self) -> pa.Schema:
        """Schema of every table."""
        return source_schema(self.attributes, self.scored)

    def tables(self, rejects: Rejects) -> Iterator[pa.Table]:
        """Returns the rows, a few thousand per table, in the source's own order. Call it again for another pass."""
        return self.read(rejects)

    def read_all(self) -> tuple[pa.Table, Rejects]:
        """Reads everything at once, for small sources."""
        rejects = Rejects()
        tables = list(self.tables(rejects))
        return pa.concat_tables(tables) if tables else self.schema.empty_table(), rejects


def row_tables(rows: Iterable[LabelRow], schema: pa.Schema) -> Iterator[pa.Table]:
    """Yields rows as tables; a column that a row lacks is null."""
    remaining = iter(rows)
    while batch := list(islice(remaining, _BATCH_ROWS)):
        yield pa.Table.from_pylist(batch, schema=schema)


@dataclass(frozen=True, kw_only=True)
class FoundRow:
    """One row of a foreign layout, before it is parsed.

    Attributes:
        where: its file, or folder.
        line: line number from 1; None if rows are file names.
        text: the row as found, for messages.
        value: input of the layout's parser.
    """

    where: str
    line: int | None
    text: str
    value: Any


def parse_rows(
    rows: Iterable[FoundRow], parse: Callable[[Any], Mapping[str, Any] | None], rejects: Rejects
) -> Iterator[LabelRow]:
    """Parses row by row. A BadRow is counted and left out; None is left out without a count.

    Raises:
        ConfigError: the image's address contains credentials.
    """
    for row in rows:
        try:
            row.text.encode()
        except UnicodeEncodeError:
            text = row.text.encode(errors="backslashreplace").decode()
            problem = BadRow("encoding", "the row is not UTF-8")
            rejects.reject(problem, where=row.where, line=row.line, text=text)
            continue
        try:
            parsed = parse(row.value)
        except BadRow as problem:
            if problem.reason == REFUSED_WITH_CREDENTIALS:
                place = row.where if row.line is None else f"{row.where} line {row.line}"
                raise ConfigError(f"{place}: {problem.detail}") from problem
            rejects.reject(problem, where=row.where, line=row.line, text=row.text)
            continue
        if parsed is not None:
            yield dict(parsed)


def check_first_rows(source: SourceLabels, expected: str) -> SourceLabels:
    """Returns the source itself, if at least one of its rows could be read.

    Raises:
        ConfigError: none could; the text names the first refused line, and what was expected.
    """
    rejects = Rejects()
    if next(source.tables(rejects), None) is not None:
        return source
    if not rejects.total:
        raise ConfigError(f"{source.where}: found no rows; expected {expected}")
    first = next(iter(rejects.examples.values()))[0]
    raise ConfigError(f"{first}. None of the {rejects.total:,} rows could be read; expected {expected}")
