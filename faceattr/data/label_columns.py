"""Columns of the published tables: one explicit Arrow schema each. Null is unknown, 0 is no.

The types of labels are decided here and nowhere else: published tables, packed tables and model outputs take them from
`label_type` and `score_type`, and `check_values` looks at every table before it is committed.
"""

import json
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceattr.attributes import Attribute, AttributeSet
from faceattr.errors import RunError

_HEAD = (
    pa.field("row", pa.int64(), nullable=False),
    pa.field("image_id", pa.string(), nullable=False),
    pa.field("uri", pa.string(), nullable=False),
)
_TAIL = (
    pa.field("sha256", pa.string()),
    pa.field("width_px", pa.int32()),
    pa.field("height_px", pa.int32()),
    pa.field("status", pa.string(), nullable=False),
    pa.field("error", pa.string()),
)

# Metadata of a label column: its class names in a published table, the whole attribute as JSON in a packed one.
_CLASSES_KEY = b"classes"
ATTRIBUTE_KEY = b"attribute"
# Class counts up to which an index type is used, the narrowest first.
_INDEX_TYPES = ((127, pa.int8()), (2**15 - 1, pa.int16()), (2**31 - 1, pa.int32()))


def label_type(attribute: Attribute, *, at_least: pa.DataType | None = None) -> pa.DataType:
    """Type of a label: a class index that holds every class, or float32 years of an age.

    Args:
        attribute: whose label.
        at_least: the narrowest type of a class index that the table uses; its format may say so.
    """
    if attribute.kind == "age":
        return pa.float32()
    if attribute.kind == "identity":
        return pa.int32()
    kind = next(kind for most, kind in _INDEX_TYPES if len(attribute.classes) <= most)
    return kind if at_least is None or kind.bit_width > at_least.bit_width else at_least


def score_type(attribute: Attribute) -> pa.DataType:
    """Type of a score: one number, or for several classes one a class, in class order."""
    return pa.list_(pa.float32()) if attribute.kind == "multiclass" else pa.float32()


def attribute_fields(attribute: Attribute) -> tuple[pa.Field, ...]:
    """`<name>` class index, `<name>_score` (P(yes), or one per class in class order), `<name>_mass`.

    Of an age `<name>` alone, in years; of an identity the score is that of the person, and there is no mass.
    """
    name = attribute.name
    if attribute.kind == "age":
        return (pa.field(name, label_type(attribute)),)
    label = pa.field(name, label_type(attribute), metadata={_CLASSES_KEY: "\n".join(attribute.classes)})
    score = pa.field(f"{name}_score", score_type(attribute))
    if attribute.kind == "identity":
        return (label, score)
    return (label, score, pa.field(f"{name}_mass", pa.float32()))


def fit_schema(table: pa.Table, schema: pa.Schema, where: str) -> pa.Table:
    """The table in the schema's columns and types, where every value keeps its meaning.

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
    """Checks the columns of attributes: labels are indexes of their classes, scores and masses are numbers.

    Raises:
        RunError: one is not; the text names the column, the value and its row.
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
    """Classes of a column of labels; 0 for other columns, and for ages."""
    metadata = field.metadata or {}
    if _CLASSES_KEY in metadata:
        return len(metadata[_CLASSES_KEY].split(b"\n"))
    return len(json.loads(metadata[ATTRIBUTE_KEY])["classes"]) if ATTRIBUTE_KEY in metadata else 0


def _is_no_number(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Rows with a value that is NaN or infinite, bool [n]; null where the row is null."""
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


def label_schema(attributes: AttributeSet, carried: Iterable[pa.Field] = ()) -> pa.Schema:
    """Schema of a label table: key, attributes, derived attributes, facts about the image, status, carried columns."""
    fields = [*_HEAD]
    for attribute in attributes.attributes:
        fields += attribute_fields(attribute)
    fields += [pa.field(rule.name, pa.int8()) for rule in attributes.derived]
    return pa.schema([*fields, *_TAIL, *carried])
