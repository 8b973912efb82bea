"""Lines and CSV rows of a text file in a store, streamed, each with its number, so that every complaint can name it."""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import pyarrow as pa

from faceattr.data.ranged import open_ranged
from faceattr.data.sources.label_table import FoundRow
from faceattr.data.storage import StorageOptions
from faceattr.errors import ConfigError, StorageError


def layout_error(where: str, line: int | None, *, found: str, expected: str) -> ConfigError:
    """The error of a file that is not in the layout: where, what was found, what was expected."""
    place = where if line is None else f"{where} line {line}"
    return ConfigError(f"{place}: found {found}; expected {expected}")


@contextmanager
def table_file(uri: str, storage: StorageOptions) -> Iterator[pa.NativeFile]:
    """A file of a store, seekable; what goes wrong with it becomes an error that names it."""
    try:
        with open_ranged(uri, storage) as file:
            yield file
    except FileNotFoundError as error:
        raise ConfigError(f"{uri} does not exist") from error
    except (pa.ArrowInvalid, pa.ArrowKeyError, pa.ArrowTypeError) as error:
        raise ConfigError(f"{uri} cannot be read as a table: {error}") from error
    except OSError as error:
        raise StorageError(f"cannot read {uri}: {error}") from error


@contextmanager
def open_text(uri: str, storage: StorageOptions) -> Iterator[TextIO]:
    """A text file. Bytes that are not UTF-8 come as surrogates, so that they spoil their own row only."""
    with (
        table_file(uri, storage) as file,
        io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as text,
    ):
        yield text


def read_lines(uri: str, storage: StorageOptions) -> Iterator[FoundRow]:
    """Lines that are not blank, without their ends; `value` is the line stripped of white space around it."""
    with open_text(uri, storage) as file:
        for line, text in enumerate(file, start=1):
            if text.strip():
                yield FoundRow(where=uri, line=line, text=text.rstrip("\r\n"), value=text.strip())


def read_csv(uri: str, storage: StorageOptions, *, delimiter: str = ",") -> Iterator[FoundRow]:
    """Rows of a CSV that are not blank; `value` is the list of cells, stripped. A row's line is its last one."""
    with open_text(uri, storage) as file:
        reader = csv.reader(file, delimiter=delimiter)
        try:
            for cells in reader:
                stripped = [cell.strip() for cell in cells]
                if any(stripped):
                    yield FoundRow(where=uri, line=reader.line_num, text=delimiter.join(cells), value=stripped)
        except csv.Error as error:
            raise layout_error(
                uri, reader.line_num, found=f"broken CSV ({error})", expected="quotes in pairs"
            ) from error


def sniff_delimiter(uri: str, storage: StorageOptions) -> str:
    """The delimiter of a CSV: whichever of comma, semicolon and tab its first line has most of."""
    first = next(read_lines(uri, storage), None)
    text = "" if first is None else first.text
    return max(",;\t", key=text.count)
