"""Published label tables as files for other tools.

Rows are streamed: memory does not depend on their number. Every row of the table is in the file; an unknown label, and
every label of a rejected image, is an empty cell (CSV) or null (JSON). A score that is NaN or infinite is null as well.
Texts in a CSV that a spreadsheet would run as formulas are neutralised; see `faceattr.data.formats.csv_cells`.
"""

import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TextIO

import pyarrow as pa

from faceattr.attributes import Attribute
from faceattr.data.formats.csv_cells import neutralise
from faceattr.data.formats.json_text import encode_json
from faceattr.data.label_columns import score_names
from faceattr.data.row_filter import RowFilter
from faceattr.data.runs.run_attributes import read_run_attributes, scored_attributes
from faceattr.data.runs.version import RunRecord, read_published, read_record
from faceattr.data.sources.options import near_hint
from faceattr.data.stores.local_files import new_text_file
from faceattr.data.stores.store import Store
from faceattr.errors import ConfigError

ExportFormat = Literal["csv", "json"]
_Read = Callable[[dict[str, Any]], Any]
_GIVEN_VALUES = {"1": 1, "0": 0, "-1": 0, "1.0": 1, "0.0": 0, "-1.0": 0, "true": 1, "false": 0}


@dataclass
class ExportSummary:
    """Counts and conflicts of an export.

    Attributes:
        num_rows: rows written.
        num_compared: per given label column, the number of rows in which both its label and ours are known.
        conflicts: (image_path, attribute, given, ours) of every row in which the two differ.
        unreadable: per given label column, the number of values that are neither 1, 0 nor -1.
    """

    num_rows: int = 0
    num_compared: dict[str, int] = field(default_factory=dict)
    conflicts: list[tuple[str, str, int, int]] = field(default_factory=list)
    unreadable: dict[str, int] = field(default_factory=dict)


def export_labels(
    store: Store,
    path: Path,
    *,
    export_format: ExportFormat,
    class_names: bool = False,
    scores: bool = False,
    names: Sequence[str] = (),
    where: RowFilter | None = None,
    limit: int | None = None,
    verify: bool = True,
) -> ExportSummary:
    """Writes `image_path`, the attributes and the derived attributes of a published label run.

    If the run's input manifest had a label column of the same name (carried as `given_<name>`), it is compared with
    ours.

    Args:
        store: the run folder.
        path: the file to write.
        export_format: format of the file.
        class_names: whether labels of several classes are written as class names instead of class indices.
        scores: whether `<name>_score` is written too, and `<name>_score_<class>` for several classes.
        names: attributes to write; empty for all.
        where: which rows are written; None for all.
        limit: most rows that are written; None for all.
        verify: see `read_published`.

    Raises:
        ConfigError: the folder contains no published label run, or the run has no such attribute or column.
    """
    record = read_label_record(store)
    attributes = select_run_attributes(record, names)
    scored = {name: each for name, each in scored_attributes(record).items() if scores and name in attributes}
    names = list(attributes)
    values = {name: _read_label(attributes[name], class_names) for name in names}
    for attribute in scored.values():
        values |= _read_scores(attribute)
    given = [name for name in names if f"given_{name}" in record.carried_schema.names]
    summary = ExportSummary(num_compared=dict.fromkeys(given, 0), unreadable=dict.fromkeys(given, 0))
    columns = ["image_id", *names, *(f"{name}_score" for name in scored if scored[name].has_score)]
    columns += [f"given_{name}" for name in given]
    with new_text_file(path) as file:
        write_row, finish = _open_writer(file, export_format, list(values))
        for row in read_run_rows(store, columns, where=where, limit=limit, verify=verify):
            write_row({"image_path": row["image_id"], **{name: read(row) for name, read in values.items()}})
            summary.num_rows += 1
            for name in given:
                _compare(summary, row, name)
        finish()
    return summary


def write_conflicts(path: Path, summary: ExportSummary) -> None:
    """Writes the rows in which a given label and ours differ."""
    with new_text_file(path) as file:
        writer = csv.writer(file)
        writer.writerow(("image_path", "attribute", "given", "derived"))
        writer.writerows([neutralise(value) for value in row] for row in summary.conflicts)


def _read_label(attribute: Attribute, class_names: bool) -> _Read:
    name, classes = attribute.name, attribute.classes
    if not class_names or not attribute.has_classes or attribute.is_yes_no:
        return lambda row: row[name]
    return lambda row: None if row[name] is None else classes[row[name]]


def _read_scores(attribute: Attribute) -> dict[str, _Read]:
    """Returns column of the file -> its value in a row of the table."""
    column = f"{attribute.name}_score"
    return {name: partial(_read_score, column, place) for name, place in score_names(attribute).items()}


def _read_score(column: str, place: int | None, row: dict[str, Any]) -> Any:
    return row[column] if place is None or row[column] is None else row[column][place]


def read_label_record(store: Store) -> RunRecord:
    """Returns the record of a label or prediction run.

    Raises:
        ConfigError: the folder contains none.
    """
    record = read_record(store)
    if record is None or record.kind not in ("label", "prediction"):
        raise ConfigError(f"{store.uri} holds no label run (no run.json of one); give the --output of one")
    return record


def select_run_attributes(record: RunRecord, names: Sequence[str]) -> dict[str, Attribute]:
    """Returns attributes of a run by name, derived ones included, in the run's order.

    Args:
        record: the run.
        names: attributes to keep; empty for all.

    Raises:
        ConfigError: the run has no such attribute.
    """
    found = read_run_attributes(record)
    unknown = [name for name in names if name not in found]
    if unknown:
        raise ConfigError(f"--attributes: the run has no {unknown[0]!r}; it has {', '.join(found)}")
    return {name: each for name, each in found.items() if not names or name in names}


def read_run_rows(
    store: Store, columns: Sequence[str], *, where: RowFilter | None, limit: int | None, verify: bool
) -> Iterator[dict[str, Any]]:
    """Yields published rows in row order, as dictionaries of `columns`; see `read_run_tables`."""
    for table in read_run_tables(store, columns, where=where, limit=limit, verify=verify):
        yield from table.to_pylist()


def read_run_tables(
    store: Store, columns: Sequence[str] | None, *, where: RowFilter | None, limit: int | None, verify: bool
) -> Iterator[pa.Table]:
    """Yields published rows in row order, as tables.

    Args:
        store: the run folder.
        columns: columns to yield; None for all.
        where: which rows; None for all.
        limit: most rows; None for all.
        verify: see `read_published`.

    Raises:
        ConfigError: nothing is published here, or `where` does not fit the table.
        RunError: a file is damaged.
    """
    left = sys.maxsize if limit is None else limit
    names = where.names if where else ()
    if names:
        known = next(read_published(store, verify=verify)).column_names
        lacking = [name for name in names if name not in known]
        if lacking:
            raise ConfigError(f"--where: there is no column {lacking[0]!r}; {near_hint(lacking[0], known)}")
    read = None if columns is None else [*dict.fromkeys([*columns, *names])]
    for table in read_published(store, read, verify=verify):
        rows = where.select(table) if where else table
        rows = (rows if columns is None else rows.select(list(columns))).slice(0, left)
        yield rows
        left -= len(rows)
        if not left:
            return


def _open_writer(
    file: TextIO, export_format: ExportFormat, names: list[str]
) -> tuple[Callable[[dict[str, Any]], object], Callable[[], object]]:
    """Returns a function that writes a row, and one that ends the file."""
    if export_format == "csv":
        writer = csv.DictWriter(file, fieldnames=["image_path", *names])
        writer.writerow({name: neutralise(name) for name in writer.fieldnames})
        return lambda row: writer.writerow({name: neutralise(value) for name, value in row.items()}), lambda: None
    separator = iter(("[\n",))

    def write(row: dict[str, Any]) -> None:
        file.write(next(separator, ",\n") + encode_json(row))

    return write, lambda: file.write(next(separator, "\n") + "]\n")


def _compare(summary: ExportSummary, row: dict[str, Any], name: str) -> None:
    value = row[f"given_{name}"]
    text = "" if value is None else str(value).strip().lower()
    if not text or row[name] is None:
        return
    given = _GIVEN_VALUES.get(text)
    if given is None:
        summary.unreadable[name] += 1
        return
    summary.num_compared[name] += 1
    if given != row[name]:
        summary.conflicts.append((row["image_id"], name, given, row[name]))


def describe_export(summary: ExportSummary, path: Path, conflicts_path: Path | None) -> str:
    """Returns the summary for the user."""
    lines = [f"wrote {summary.num_rows:,} rows to {path}"]
    for name, count in summary.num_compared.items():
        different = sum(1 for conflict in summary.conflicts if conflict[1] == name)
        share = f" ({different / count:.1%})" if count else ""
        lines.append(f"given label column {name!r}: {different:,} of {count:,} differ from ours{share}")
        if summary.unreadable[name]:
            lines.append(f"  {summary.unreadable[name]:,} given values are neither 1, 0 nor -1")
    if conflicts_path is not None:
        lines.append(f"the differences are listed in {conflicts_path}")
    return "\n".join(lines)
