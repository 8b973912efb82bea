"""JSON Lines: one JSON object a line, plain or as .gz, read as tables with one schema.

A key may be absent from a line, so the file is read twice: first for its keys and the kinds of their values, then for
the values. Only the keys and one table are held in memory.

    true and false              bool
    whole numbers               int64
    whole and other numbers     double
    anything else, or mixed     string: texts as they are, other values as JSON text
"""

import itertools
import json
import math
from collections.abc import Iterator
from typing import Any, NoReturn

import pyarrow as pa

from faceattr.config import StorageConfig
from faceattr.data.formats.json_text import encode_json
from faceattr.data.formats.text_structure import table_error
from faceattr.data.formats.text_tables import read_text_lines

JSONL_ENDINGS = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
_BATCH_ROWS = 8_192
_MOST_KEYS = 1_000
_EXACT = 2**53  # up to here every whole number is a double
_INT64 = 2**63


def read_schema(uri: str, storage: StorageConfig) -> pa.Schema:
    """Returns the keys of all lines, in order of their first appearance, with the type of their values.

    Raises:
        ConfigError: the file does not exist, or a line is not a JSON object; the error names the line.
    """
    kinds: dict[str, set[str]] = {}
    for line, row in _objects(uri, storage):
        for key, value in row.items():
            if key not in kinds and len(kinds) == _MOST_KEYS:
                raise table_error(uri, line, f"more than {_MOST_KEYS:,} keys; are they data? {key!r} is a new one")
            kinds.setdefault(key, set()).add(_kind(value))
    return pa.schema([pa.field(key, _type(found - {"null"})) for key, found in kinds.items()])


def read_object_tables(uri: str, storage: StorageConfig, schema: pa.Schema) -> Iterator[pa.Table]:
    """Yields the lines as tables in the schema from `read_schema`; an absent key is null.

    Raises:
        ConfigError: as `read_schema`, or the file was changed since.
    """
    rows = _objects(uri, storage)
    while batch := list(itertools.islice(rows, _BATCH_ROWS)):
        for line, row in batch:
            unknown = next((key for key in row if key not in schema.names), None)
            if unknown is not None:
                raise table_error(uri, line, f"the key {unknown!r} is new; the file was changed while it was read")
        columns = [[_value(row.get(field.name), field.type) for _, row in batch] for field in schema]
        yield pa.table(
            [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)], schema=schema
        )


def _objects(uri: str, storage: StorageConfig) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in read_text_lines(uri, storage):
        if not text.strip():
            continue
        try:
            row = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            raise table_error(uri, line, f"no JSON object in UTF-8 ({error}): {text[:80]!r}") from error
        if not isinstance(row, dict):
            raise table_error(uri, line, f"expected a JSON object, found {text[:80]!r}")
        yield line, row


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    for name, value in pairs:
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"the number of {name!r} is too large")
        for text in (name, value):
            if isinstance(text, str) and not text.isascii():
                text.encode()  # half of a surrogate pair; the error is a ValueError
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int():
            return "int" if abs(value) <= _EXACT else "long" if -_INT64 <= value < _INT64 else "other"
        case float():
            return "float"
        case _:
            return "other"


def _type(kinds: set[str]) -> pa.DataType:
    if kinds == {"bool"}:
        return pa.bool_()
    if kinds and kinds <= {"int", "long"}:
        return pa.int64()
    if kinds and kinds <= {"int", "float"}:
        return pa.float64()
    return pa.string()


def _value(value: Any, kind: pa.DataType) -> Any:
    if value is None or isinstance(value, str) or not pa.types.is_string(kind):
        return value
    return encode_json(value)
