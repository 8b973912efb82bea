"""Streams lines and CSV rows of a text file in a store, each with its number, so that every error can name it."""

from collections.abc import Iterator

from faceattr.config import StorageConfig
from faceattr.data.formats.text_tables import read_rows, read_text_lines
from faceattr.data.sources.source import FoundRow
from faceattr.errors import ConfigError


def layout_error(where: str, line: int | None, *, found: str, expected: str) -> ConfigError:
    """Returns the error of a file that does not have the layout: where, what was found, what was expected."""
    place = where if line is None else f"{where} line {line}"
    return ConfigError(f"{place}: found {found}; expected {expected}")


def read_lines(uri: str, storage: StorageConfig) -> Iterator[FoundRow]:
    """Yields lines that are not blank, without line ends; `value` is the line without surrounding white space."""
    for line, text in read_text_lines(uri, storage):
        if text.strip():
            yield FoundRow(where=uri, line=line, text=text, value=text.strip())


def read_csv(uri: str, storage: StorageConfig, *, delimiter: str = ",") -> Iterator[FoundRow]:
    """Yields the rows of a CSV that are not blank, read strictly (`text_tables`); `value` is the unchanged cells."""
    for row in read_rows(uri, storage, delimiter=delimiter):
        if row.cells and "".join(row.cells).strip():
            yield FoundRow(where=uri, line=row.line, text=delimiter.join(row.cells), value=row.cells)
