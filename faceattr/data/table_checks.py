"""Checks of tables before they are written: fitted to a schema, and every value of a label column checked."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceattr.data.label_columns import _CLASSES_KEY, ATTRIBUTE_KEY
from faceattr.errors import RunError


def fit_schema(table: pa.Table, schema: pa.Schema, where: str) -> pa.Table:
    """Casts a table to the columns and types of a schema, without changing the meaning of any value.

    Raises:
        RunError: a value does not fit its column; see also `check_values`.
    """
    columns = []
    for field in schema:
        try:
            columns.append(table[field.name].cast(field.type))
        except pa.ArrowInvalid as error:
            raise RunError(
                f"{where}: column {field.name!r} is {field.type}, which cannot hold a value: {error}"
            ) from error
    fitting = pa.table(columns, schema=schema)
    check_values(fitting, where)
    return fitting


def check_values(table: pa.Table, where: str) -> None:
    """Checks the columns of attributes: labels are class indices, scores and masses are finite numbers.

    Raises:
        RunError: a value is not; the text names the column, the value and its row.
    """
    for field in table.schema:
        num_classes = _count_classes(field)
        if not num_classes:
            continue
        labels = table[field.name]
        outside = pc.or_(pc.less(labels, 0), pc.greater_equal(labels, num_classes))
        _refuse_first(table, field.name, outside, f"expected a class index from 0 to {num_classes - 1}", where)
        for name in (f"{field.name}_score", f"{field.name}_mass"):
            if name in table.column_names:
                _refuse_first(table, name, _is_no_number(table[name]), "expected a number", where)


def _count_classes(field: pa.Field) -> int:
    """Returns the number of classes of a label column; 0 for other columns, and for ages."""
    metadata = field.metadata or {}
    if _CLASSES_KEY in metadata:
        return len(metadata[_CLASSES_KEY].split(b"\n"))
    return len(json.loads(metadata[ATTRIBUTE_KEY])["classes"]) if ATTRIBUTE_KEY in metadata else 0


def _is_no_number(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns rows with a NaN or infinite value, bool [n]; null where the row is null."""
    if not pa.types.is_list(column.type):
        return pc.invert(pc.is_finite(column))
    column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    bad = pc.invert(pc.is_finite(pc.list_flatten(column)))
    rows = pc.unique(pc.list_parent_indices(column).filter(pc.fill_null(bad, False)))
    return pc.is_in(pa.array(np.arange(len(column))), value_set=rows.cast(pa.int64()))


def _refuse_first(table: pa.Table, name: str, is_wrong: pa.ChunkedArray, expected: str, where: str) -> None:
    if not pc.any(is_wrong).as_py():
        return
    place = pc.index(pc.fill_null(is_wrong, False), True).as_py()
    row = table["row"][place].as_py() if "row" in table.column_names else place
    raise RunError(f"{where}: row {row}, column {name!r}: {expected}, found {_brief(table[name][place].as_py())}")


def _brief(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
