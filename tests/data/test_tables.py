"""Types of label columns, and the check that stands in front of every commit."""

import numpy as np
import pyarrow as pa
import pytest

from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.label_columns import attribute_fields, label_fields, label_schema, label_type
from faceattr.data.table_checks import check_values, fit_schema
from faceattr.errors import RunError


def attribute(kind: str, num_classes: int) -> Attribute:
    return Attribute(name="who", kind=kind, classes=tuple(f"c{index}" for index in range(num_classes)))


HAT = Attribute(name="hat")


@pytest.mark.parametrize(
    ("kind", "num_classes", "published", "packed"),
    [
        ("multiclass", 2, pa.int8(), pa.int16()),
        ("multiclass", 127, pa.int8(), pa.int16()),
        ("multiclass", 128, pa.int16(), pa.int16()),
        ("multiclass", 32_767, pa.int16(), pa.int16()),
        ("multiclass", 32_768, pa.int32(), pa.int32()),
        ("identity", 40_000, pa.int32(), pa.int32()),
    ],
)
def test_the_type_of_a_label_holds_every_class(kind, num_classes, published, packed):
    given = attribute(kind, num_classes)
    assert attribute_fields(given)[0].type == label_type(given) == published
    assert label_fields(given)[0].type == packed
    pa.array([num_classes - 1], published)  # raises where it does not fit


def test_binary_labels_stay_one_byte_wide_in_both_tables():
    assert (attribute_fields(HAT)[0].type, label_fields(HAT)[0].type) == (pa.int8(), pa.int8())


def rows_of(fields: list[pa.Field], **columns: list[object]) -> pa.Table:
    length = len(next(iter(columns.values())))
    schema = pa.schema([pa.field("row", pa.int64()), *fields])
    given = {"row": list(range(10, 10 + length)), **columns}
    return pa.table([pa.array(given.get(field.name, [None] * length), field.type) for field in schema], schema=schema)


@pytest.mark.parametrize("fields", [attribute_fields, lambda given: label_fields(given, scored=True)])
@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"who": [1, None, -127]}, r"shard: row 12, column 'who': expected a class index from 0 to 129, found -127"),
        ({"who": [130]}, r"row 10, column 'who': expected a class index from 0 to 129, found 130"),
        ({"who_mass": [0.5, float("nan")]}, r"row 11, column 'who_mass': expected a number, found nan"),
        (
            {"who_score": [None, [0.5, float("inf")]]},
            r"row 11, column 'who_score': expected a number, found \[0.5, inf",
        ),
    ],
)
def test_a_label_that_is_no_class_and_a_score_that_is_no_number_are_refused(fields, columns, text):
    with pytest.raises(RunError, match=text):
        check_values(rows_of(list(fields(attribute("multiclass", 130))), **columns), "shard")


def test_good_rows_and_nulls_pass():
    fields = [*attribute_fields(HAT), *attribute_fields(attribute("multiclass", 3))]
    columns = {"hat": [1, None, 0], "hat_score": [0.5, None, 1.0], "who": [2, None, 0]}
    columns["who_score"] = [[0.25, 0.25, 0.5], None, [1.0, 0.0, 0.0]]
    check_values(rows_of(fields, **columns), "shard")
    check_values(rows_of(fields, **columns).slice(1, 1), "shard")
    check_values(rows_of(fields, **columns).slice(0, 0), "shard")


def test_a_cast_that_would_change_a_value_names_column_and_type():
    schema = label_schema(AttributeSet(attributes=(HAT,)))
    columns = {field.name: pa.nulls(2, field.type) for field in schema}
    wide = columns | {"hat": pa.array([1, 300]), "row": pa.array([0, 1]), "image_id": pa.array(["a", "b"])}
    wide |= {"uri": pa.array(["a", "b"]), "status": pa.array(["ok", "ok"])}
    with pytest.raises(RunError, match=r"shard: column 'hat' is int8, which cannot hold a value: .*300"):
        fit_schema(pa.table(wide), schema, "shard")
    fitting = fit_schema(pa.table(wide | {"hat": pa.array(np.array([1, 0]))}), schema, "shard")
    assert fitting.schema == schema
    assert fitting["hat"].to_pylist() == [1, 0]
