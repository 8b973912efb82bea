"""Text tables (CSV, TSV), read strictly: the one reader of manifests and label tables.

What would swallow or shift rows is refused with its line: a quote that is not closed, text behind a closing quote, rows
of another length than the header. `text_structure` finds the rows, Arrow or `csv` reads the cells, and both must come
to the same number of rows. Blocks of whole rows are a few MiB, so memory is bounded; one row may be MAX_ROW_BYTES.
"""

import codecs
import csv
import gzip
import io
import itertools
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.csv

from faceattr.config import StorageConfig
from faceattr.data.formats.text_structure import NUL_PROBLEM, TextBlock, split_rows, table_error
from faceattr.data.stores.ranged import open_ranged
from faceattr.errors import ConfigError, StorageError

MAX_ROW_BYTES = 64 * 2**20
TEXT_ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_CHUNK = 2 * 2**20
_DELIMITERS = ",;\t"
_HEADER = re.compile(r'(?:"(?:[^"]++|"")*+"|[^"\r\n])*+')
_INDEX_NAME = re.compile(r"|Unnamed: \d+(?:_level_\d+)?(?:\.\d+)?|__index_level_\d+__")
_FOREIGN = {
    codecs.BOM_UTF32_LE: "UTF-32 text",
    codecs.BOM_UTF32_BE: "UTF-32 text",
    codecs.BOM_UTF16_LE: "UTF-16 text",
    codecs.BOM_UTF16_BE: "UTF-16 text",
    b"PK\x03\x04": "a ZIP or Excel file",
    b"PAR1": "a Parquet file",
    b"BZh": "a bzip2 file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TextRow:
    """One row: its cells as they stand, and the line where it begins, counted from 1.

    Bytes that are not UTF-8 come as surrogates, so that they spoil their own row only.
    """

    line: int
    cells: list[str]


@contextmanager
def table_file(uri: str, storage: StorageConfig) -> Iterator[pa.NativeFile]:
    """A file of a store, seekable; what goes wrong with it becomes an error that names it."""
    try:
        with open_ranged(uri, storage) as file:
            yield file
    except FileNotFoundError as error:
        raise ConfigError(f"{uri} does not exist") from error
    except (pa.ArrowInvalid, pa.ArrowKeyError, pa.ArrowTypeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{uri} cannot be read as a table: {error}") from error
    except OSError as error:
        raise StorageError(f"cannot read {uri}: {error}") from error


def is_index_name(name: str) -> bool:
    """Whether a column's name is what pandas makes of its index: nothing, `Unnamed: 0` or `__index_level_0__`."""
    return _INDEX_NAME.fullmatch(name.strip()) is not None


def check_header(names: Sequence[str], uri: str) -> None:
    """Raises ConfigError if a name stands twice; nameless columns (pandas' index) may."""
    for name in names:
        if names.count(name) > 1 and not is_index_name(name):
            problem = f"there is more than one column {name!r}; rename them (found {list(names)})"
            raise table_error(uri, 1, problem)


def sniff_delimiter(uri: str, storage: StorageConfig) -> str:
    """Comma, semicolon or tab: whichever the header has most of, outside of quotes."""
    text = next(_read_chunks(uri, storage), b"").decode("utf-8", "surrogateescape").lstrip("\r\n \ufeff")
    match = _HEADER.match(text)
    header = re.sub(r'"(?:[^"]++|"")*+"', "", match[0] if match else "")
    default = "\t" if uri.lower().endswith((".tsv", ".tsv.gz")) else ","
    return max((default, *_DELIMITERS), key=header.count)


def read_rows(uri: str, storage: StorageConfig, *, delimiter: str) -> Iterator[TextRow]:
    """All rows that are not blank, the header among them.

    Raises:
        ConfigError: it is no text table; see the module. The number of cells is not looked at.
    """
    csv.field_size_limit(MAX_ROW_BYTES)
    for block in _read_blocks(uri, storage, delimiter):
        text = block.data.decode("utf-8", "surrogateescape")
        if block.has_quotes:
            reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
            found = [cells for cells in reader if cells]
        else:
            found = [line.split(delimiter) for line in text.split("\n") if line]
        _check_count(uri, block, len(found))
        for line, cells in zip(block.lines.tolist(), found, strict=True):
            yield TextRow(line=line, cells=cells)


def read_text_lines(uri: str, storage: StorageConfig) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, counted from 1, without their ends; quotes mean nothing here.

    Raises:
        ConfigError: it is no text.
    """
    rest, number = b"", 0
    for chunk in itertools.chain(_read_chunks(uri, storage), [b"\n"]):
        *lines, rest = (rest + chunk).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            number += 1
            if b"\0" in line:
                raise table_error(uri, number, NUL_PROBLEM)
            yield number, line.decode("utf-8", "surrogateescape")
        if len(rest) > MAX_ROW_BYTES:
            raise table_error(uri, number + 1, f"a line of more than {MAX_ROW_BYTES:,} bytes")


def read_header(uri: str, storage: StorageConfig, *, delimiter: str) -> list[str]:
    """Names of the columns, without white space around them.

    Raises:
        ConfigError: it is no text table, or a name stands twice.
    """
    first = next(read_rows(uri, storage, delimiter=delimiter), None)
    if first is None:
        raise table_error(uri, None, "it is empty")
    names = [cell.strip() for cell in first.cells]
    try:
        "".join(names).encode()
    except UnicodeEncodeError as error:
        raise table_error(uri, first.line, "bytes that are not UTF-8 (UTF8); save it as UTF-8") from error
    check_header(names, uri)
    return names


def read_tables(uri: str, storage: StorageConfig, *, delimiter: str, names: Sequence[str]) -> Iterator[pa.Table]:
    """Rows behind the header as tables of texts, a few MiB at a time; values stand as they are.

    Raises:
        ConfigError: it is no text table, a row is longer or shorter than the header, or is not UTF-8.
    """
    # Arrow wants distinct names; those of the index may repeat.
    columns = [f"column {place}" for place in range(len(names))]
    convert = pa.csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False)
    is_header = True
    for found in _read_blocks(uri, storage, delimiter):
        block = _without_blank_rows(found, len(names))
        if is_header:
            block, is_header = _behind_header(block), False
        _check_cells(uri, block, len(names))
        if not len(block.starts):
            continue
        try:
            codecs.utf_8_decode(block.data, "strict", True)
        except UnicodeDecodeError as error:
            line = int(block.lines[np.searchsorted(block.starts, error.start, "right") - 1])
            problem = f"bytes that are not UTF-8 (UTF8), {error.object[error.start : error.end]!r}; save it as UTF-8"
            raise table_error(uri, line, problem) from error
        table = pa.csv.read_csv(
            pa.BufferReader(block.data),
            pa.csv.ReadOptions(column_names=columns, block_size=len(block.data) + 1, use_threads=False),
            pa.csv.ParseOptions(
                delimiter=delimiter, quote_char='"' if block.has_quotes else False, newlines_in_values=block.has_quotes
            ),
            convert,
        )
        _check_count(uri, block, len(table))
        yield table.rename_columns(list(names))


def _check_count(uri: str, block: TextBlock, num_read: int) -> None:
    if num_read != len(block.starts):
        found = f"{len(block.starts):,} rows by their line ends and {num_read:,} by their cells"
        raise table_error(uri, int(block.lines[0]), f"from here there are {found}; quote its cells as RFC 4180 says")


def _check_cells(uri: str, block: TextBlock, expected: int) -> None:
    wrong = np.flatnonzero(block.num_cells != expected)
    if len(wrong):
        first = int(wrong[0])
        text = block.data[block.starts[first] : block.ends[first]][:80].decode("utf-8", "backslashreplace")
        found = f"Expected {expected} columns, got {block.num_cells[first]}"
        raise table_error(uri, int(block.lines[first]), f"{found}: {text!r}; the header and every row must agree")


def _without_blank_rows(block: TextBlock, num_columns: int) -> TextBlock:
    """The block without rows of white space alone, where a row must have more than one cell."""
    wrong = np.flatnonzero(block.num_cells != num_columns)
    blank = [row for row in wrong.tolist() if not block.data[block.starts[row] : block.ends[row]].strip()]
    return _select(block, np.setdiff1d(np.arange(len(block.starts)), blank)) if blank else block


def _behind_header(block: TextBlock) -> TextBlock:
    return _select(block, np.arange(1, len(block.starts)))


def _select(block: TextBlock, rows: np.ndarray) -> TextBlock:
    pieces = [block.data[block.starts[row] : block.ends[row] + 1] for row in rows.tolist()]
    ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64) - 1
    return TextBlock(
        data=b"".join(pieces),
        starts=np.concatenate([np.zeros(min(1, len(ends)), np.int64), ends[:-1] + 1]),
        ends=ends,
        lines=block.lines[rows],
        num_cells=block.num_cells[rows],
        has_quotes=block.has_quotes,
    )


def _read_chunks(uri: str, storage: StorageConfig) -> Iterator[bytes]:
    """The text in chunks that never part the two characters of a line end, unpacked, without a byte order mark."""
    with table_file(uri, storage) as raw:
        head = raw.read(4)
        raw.seek(0)
        for start, kind in _FOREIGN.items():
            if head.startswith(start):
                raise table_error(uri, None, f"it is {kind}; expected a CSV in UTF-8, plain or as .gz: save it so")
        file = gzip.GzipFile(fileobj=raw) if head.startswith(b"\x1f\x8b") else raw
        is_first = True
        try:
            while chunk := file.read(_CHUNK):
                while chunk.endswith(b"\r") and (more := file.read(1)):
                    chunk += more
                yield chunk.removeprefix(codecs.BOM_UTF8) if is_first else chunk
                is_first = False
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise table_error(uri, None, f"the gzip file is cut or damaged ({error})") from error


def _read_blocks(uri: str, storage: StorageConfig, delimiter: str) -> Iterator[TextBlock]:
    chunks = _read_chunks(uri, storage)
    rest, line, is_end = b"", 1, False
    while not is_end:
        parts, size = [rest], 0
        while size < max(_CHUNK, len(rest)) and not is_end:  # rows of any length in linear time
            chunk = next(chunks, b"")
            is_end = not chunk
            parts.append(chunk)
            size += len(chunk)
        data = b"".join(parts)
        if is_end and data and not data.endswith((b"\n", b"\r")):
            data += b"\n"
        if not data:
            return
        block, rest = split_rows(data, ord(delimiter), uri, line, is_end=is_end)
        if len(rest) > MAX_ROW_BYTES:
            begins = line + block.data.count(b"\n")
            raise table_error(uri, begins, f"a row of more than {MAX_ROW_BYTES:,} bytes; is its quote not closed?")
        line += block.data.count(b"\n")
        if len(block.starts):
            yield block
