"""Lines and CSV rows of a text file in a store, streamed, each with its number, so that every complaint can name it."""

from collections.abc import Iterator

from faceattr.config import StorageConfig
from faceattr.data.formats.text_tables import read_rows, read_text_lines
from faceattr.data.sources.source import FoundRow
from faceattr.errors import ConfigError


def layout_error(where: str, line: int | None, *, found: str, expected: str) -> ConfigError:
    """The error of a file that is not in the layout: where, what was found, what was expected."""
    place = where if line is None else f"{where} line {line}"
    return ConfigError(f"{place}: found {found}; expected {expected}")


def read_lines(uri: str, storage: StorageConfig) -> Iterator[FoundRow]:
    """Lines that are not blank, without their ends; `value` is the line stripped of white space around it."""
    for line, text in read_text_lines(uri, storage):
        if text.strip():
            yield FoundRow(where=uri, line=line, text=text, value=text.strip())


def read_csv(uri: str, storage: StorageConfig, *, delimiter: str = ",") -> Iterator[FoundRow]:
    """Rows of a CSV, strictly read (`text_tables`), that are not blank; `value` is the list of cells as they stand."""
    for row in read_rows(uri, storage, delimiter=delimiter):
        if row.cells and "".join(row.cells).strip():
            yield FoundRow(where=uri, line=row.line, text=delimiter.join(row.cells), value=row.cells)
