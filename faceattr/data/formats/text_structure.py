"""The structure of a text table: where its rows and cells start and end, and what breaks that.

Computed in numpy over a few MiB at a time. A quote opens or closes a cell only at the cell's edge, as in RFC 4180; a
quote inside an unquoted cell (`5" tall`) is a normal character.
"""

import re
from dataclasses import dataclass

import numpy as np

from faceattr.errors import ConfigError

NUL_PROBLEM = "a NUL byte; expected text in UTF-8 (is it UTF-16, or no text?)"
_QUOTE, _NEWLINE, _RETURN = 34, 10, 13
_QUOTED = re.compile(rb'"(?:[^"]++|"")*+"')
_IMAGE_NAME = re.compile(rb"\.(?:jpe?g|jpe|jfif|png|webp|bmp|gif|tiff?|avif|hei[cf]|jp2)\s*$", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class TextBlock:
    """Whole rows.

    Attributes:
        data: the text; each row ends with a newline; other line ends occur in quoted cells only.
        starts: int64 [n], starts of the rows, without blank rows.
        ends: int64 [n], positions of their newlines.
        lines: int64 [n], line numbers of their starts.
        num_cells: int64 [n], cells per row.
        has_quotes: whether the text contains any quote.
    """

    data: bytes
    starts: np.ndarray
    ends: np.ndarray
    lines: np.ndarray
    num_cells: np.ndarray
    has_quotes: bool


def table_error(uri: str, line: int | None, problem: str) -> ConfigError:
    """Returns the error of a text that is not a table."""
    at = "" if line is None else f"line {line}: "
    return ConfigError(f"{uri} cannot be read as a table: {at}{problem}")


def split_rows(data: bytes, delimiter: int, uri: str, line: int, *, is_end: bool) -> tuple[TextBlock, bytes]:
    """Splits text that starts with a row into whole rows and the rest after them."""
    nul = data.find(b"\0")
    if nul >= 0:
        raise table_error(uri, line + _count_lines(data[:nul]), NUL_PROBLEM)
    quotes = _quote_places(data, delimiter, uri, line)
    if is_end and len(quotes) % 2:
        raise _unclosed(data, int(quotes[-1]), uri, line)
    if b"\r" in data:
        data = _plain_line_ends(data, quotes)
        quotes = _quote_places(data, delimiter, uri, line)
    return _cut(data, quotes, delimiter, uri, line)


def _cut(data: bytes, quotes: np.ndarray, delimiter: int, uri: str, line: int) -> tuple[TextBlock, bytes]:
    array = np.frombuffer(data, np.uint8)
    newlines = np.flatnonzero(array == _NEWLINE)
    delimiters = np.flatnonzero(array == delimiter)
    ends = newlines
    if len(quotes):
        ends = newlines[np.searchsorted(quotes, newlines) % 2 == 0]
        delimiters = delimiters[np.searchsorted(quotes, delimiters) % 2 == 0]
    cut = int(ends[-1]) + 1 if len(ends) else 0
    starts = np.concatenate([np.zeros(min(1, len(ends)), np.int64), ends[:-1] + 1])
    num_cells = np.diff(np.searchsorted(delimiters, ends), prepend=0) + 1
    kept = ends > starts
    block = TextBlock(
        data=data[:cut],
        starts=starts[kept],
        ends=ends[kept],
        lines=line + np.searchsorted(newlines, starts[kept]),
        num_cells=num_cells[kept],
        has_quotes=b'"' in data,
    )
    if len(ends) < len(newlines):
        _refuse_swallowed(block, newlines, delimiter, uri)
    return block, data[cut:]


def _quote_places(data: bytes, delimiter: int, uri: str, line: int) -> np.ndarray:
    """Returns where quotes open and close cells, alternating; a doubled quote closes and reopens."""
    if b'"' not in data:
        return np.array([], np.int64)
    array = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(array == _QUOTE)
    edges = np.array([delimiter, _NEWLINE, _RETURN, _QUOTE], np.uint8)
    opening, closing = quotes[::2], quotes[1::2]
    before = array[opening[opening > 0] - 1]
    behind = array[closing[closing < len(array) - 1] + 1]
    if np.isin(before, edges).all() and np.isin(behind, edges).all():
        return quotes
    return _find_quotes(data, delimiter, uri, line)


def _find_quotes(data: bytes, delimiter: int, uri: str, line: int) -> np.ndarray:
    """`_quote_places`, one quote after the other: quotes inside unquoted cells are normal characters."""
    edges = frozenset([delimiter, _NEWLINE, _RETURN])
    found = []
    place = data.find(b'"')
    while place >= 0:
        if place and data[place - 1] not in edges:
            place = data.find(b'"', place + 1)
            continue
        match = _QUOTED.match(data, place)
        if match is None:
            found.append(place)  # still open at the end of this data
            break
        end = match.end()
        if end < len(data) and data[end] not in edges:
            opened = line + _count_lines(data[:place])
            text = data[end : end + 40].splitlines()[0].decode("utf-8", "backslashreplace")
            raise table_error(
                uri,
                line + _count_lines(data[:end]),
                f"text {text!r} behind a closing quote; the quote opens in line {opened}, "
                f"{_shown(data, place)}. Close it there, or double a quote that is a character",
            )
        found += [place, end - 1]
        place = data.find(b'"', end)
    return np.array(found, np.int64)


def _unclosed(data: bytes, place: int, uri: str, line: int) -> ConfigError:
    problem = f"an unclosed quote: {_shown(data, place)}. Close it; double a quote that is a character"
    return table_error(uri, line + _count_lines(data[:place]), problem)


def _shown(data: bytes, place: int) -> str:
    return repr(data[place : place + 40].splitlines()[0].decode("utf-8", "backslashreplace"))


def _count_lines(data: bytes) -> int:
    return data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")


def _plain_line_ends(data: bytes, quotes: np.ndarray) -> bytes:
    """Returns the data with every line end outside quoted cells as a newline."""
    array = np.frombuffer(data, np.uint8)
    returns = np.flatnonzero(array == _RETURN)
    outside = returns[np.searchsorted(quotes, returns) % 2 == 0]
    followed = np.append(array, 0)[outside + 1] == _NEWLINE
    plain = array.copy()
    plain[outside] = _NEWLINE
    return np.delete(plain, outside[followed]).tobytes()


def _refuse_swallowed(block: TextBlock, newlines: np.ndarray, delimiter: int, uri: str) -> None:
    """Refuses a quoted cell of several lines if one of them looks like a row with its own image.

    A stray quote that opens a cell and another that closes one turn the rows between them into a well-formed cell.
    """
    num_lines = np.searchsorted(newlines, block.ends) - np.searchsorted(newlines, block.starts)
    for row in np.flatnonzero(num_lines > 0).tolist():
        inner = block.data[block.starts[row] : block.ends[row]].split(b"\n")[1:]
        for number, text in enumerate(inner, start=1):
            cells = text.partition(b'"')[0].split(bytes([delimiter]))
            if len(cells) == block.num_cells[row] and any(_IMAGE_NAME.search(cell) for cell in cells):
                line = int(block.lines[row])
                shown = text[:60].decode("utf-8", "backslashreplace")
                inside = f"line {line + number} is inside of its cell and looks like a row: {shown!r}"
                raise table_error(uri, line, f"an unclosed quote: {inside}")
