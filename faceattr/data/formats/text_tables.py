"""Text tables (CSV, TSV), read strictly: the only reader of manifests and label tables.

Input that would swallow or shift rows is refused with its line: an unclosed quote, text after a closing quote, rows
whose length differs from the header's. `text_structure` finds the rows, Arrow or `csv` reads the cells, and both must
find the same number of rows. Blocks of whole rows are a few MiB, so memory is bounded; one row may have MAX_ROW_BYTES.
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
    """One row: its unchanged cells, and the line where it starts, counted from 1.

    Bytes that are not UTF-8 are returned as surrogates, so that they affect only their own row.
    """

    line: int
    cells: list[str]


@contextmanager
def table_file(uri: str, storage: StorageConfig) -> Iterator[pa.NativeFile]:
    """Opens a store's file for seeking; errors of reading it become errors that name it."""
    try:
        with open_ranged(uri, storage) as file:
            yield file
    except FileNotFoundError as error:
        raise ConfigError(f"{uri} does not exist") from error
    except (
        pa.ArrowInvalid,
        pa.ArrowKeyError,
        pa.ArrowTypeError,
        pa.ArrowNotImplementedError,
        UnicodeDecodeError,
    ) as error:
        raise ConfigError(f"{uri} cannot be read as a table: {error}") from error
    except OSError as error:
        raise StorageError(f"cannot read {uri}: {error}") from error


def is_index_name(name: str) -> bool:
    """Whether a column name is one that pandas gives its index: empty, `Unnamed: 0` or `__index_level_0__`."""
    return _INDEX_NAME.fullmatch(name.strip()) is not None


def check_header(names: Sequence[str], uri: str) -> None:
    """Raises ConfigError if a name occurs twice; nameless columns (pandas' index) may repeat."""
    for name in names:
        if names.count(name) > 1 and not is_index_name(name):
            problem = f"there is more than one column {name!r}; rename them (found {list(names)})"
            raise table_error(uri, 1, problem)


def sniff_delimiter(uri: str, storage: StorageConfig) -> str:
    """Returns comma, semicolon or tab, whichever is most frequent in the header outside quotes."""
    text = next(_read_chunks(uri, storage), b"").decode("utf-8", "surrogateescape").lstrip("\r\n \ufeff")
    match = _HEADER.match(text)
    header = re.sub(r'"(?:[^"]++|"")*+"', "", match[0] if match else "")
    default = "\t" if uri.lower().endswith((".tsv", ".tsv.gz")) else ","
    return max((default, *_DELIMITERS), key=header.count)


def read_rows(uri: str, storage: StorageConfig, *, delimiter: str) -> Iterator[TextRow]:
    """Yields all rows that are not blank, including the header.

    Raises:
        ConfigError: the file is not a text table; see the module. The number of cells is not checked.
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
    """Yields lines with their numbers, counted from 1, without line ends; quotes have no meaning here.

    Raises:
        ConfigError: the file is not text.
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
    """Returns the names of the columns, without surrounding white space.

    Raises:
        ConfigError: the file is not a text table, or a name occurs twice.
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
    """Yields the rows after the header as tables of texts, a few MiB at a time; values are unchanged.

    Raises:
        ConfigError: the file is not a text table, a row is longer or shorter than the header, or is not UTF-8.
    """
    # Arrow needs distinct names; names of index columns may repeat.
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
    """Returns the block without rows of only white space, if a row must have more than one cell."""
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
    """Yields the decompressed text in chunks, without a byte order mark; no chunk splits a two-character line end."""
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
        while size < max(_CHUNK, len(rest)) and not is_end:  # linear time for rows of any length
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
