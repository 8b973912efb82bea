"""The labels of an issue list become unknown, with their scores, and nothing else changes."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.packed.label_issues import decode_issues, drop_issues
from faceattr.data.sources.source import Rejects, SourceLabels
from faceattr.errors import ConfigError

ATTRIBUTES = AttributeSet(
    attributes=(Attribute(name="hat"), Attribute(name="tone", kind="multiclass", classes=("dark", "mid", "light")))
)


@pytest.fixture
def source():
    schema = SourceLabels(
        kind="table", where="here", image_root="", attributes=ATTRIBUTES, read=iter, scored=frozenset(["hat"])
    ).schema
    rows = [
        {"image_id": "a", "uri": "a", "hat": 1, "hat_score": 0.9, "hat_mass": 0.8, "tone": 2},
        {"image_id": "b", "uri": "b", "hat": 0, "hat_score": 0.1, "hat_mass": 0.8, "tone_mask": 3},
        {"image_id": "c", "uri": "c", "hat": None, "tone": 0},
    ]
    tables = [pa.Table.from_pylist(rows[:2], schema), pa.Table.from_pylist(rows[2:], schema)]
    return SourceLabels(
        kind="table",
        where="here",
        image_root="",
        attributes=ATTRIBUTES,
        read=lambda rejects: iter(tables),
        scored=frozenset(["hat"]),
    )


def encode(**columns) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def test_named_labels_become_unknown(source):
    data = encode(
        image_id=["a", "c", "b", "b", "gone"],
        attribute=["hat", "hat", "tone", "hat", "hat"],
        is_issue=[True, True, True, False, True],
    )
    dropped, number = drop_issues(source, decode_issues(data, "list"), "list")
    assert number == 1  # a's hat; b's tone is coarse, whose class was not known, and c's hat is unknown already
    found = {row["image_id"]: row for table in dropped.tables(Rejects()) for row in table.to_pylist()}
    given = {row["image_id"]: row for table in source.tables(Rejects()) for row in table.to_pylist()}
    assert found["a"] == given["a"] | {"hat": None, "hat_score": None, "hat_mass": None}
    assert found["b"] == given["b"] | {"tone_mask": None}
    assert found["c"] == given["c"]
    assert dropped.schema == source.schema


def test_a_list_without_verdicts_names_issues_alone(source):
    issues = decode_issues(encode(image_id=["a", "b"], attribute=["hat", "hat"]), "list")
    assert {name: ids.to_pylist() for name, ids in issues.items()} == {"hat": ["a", "b"]}
    assert drop_issues(source, issues, "list")[1] == 2


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"image_id": ["a"]}, "list: has no column attribute; expected a list that `faceattr audit issues` wrote"),
        ({"image_id": ["a"], "attribute": ["hat"], "is_issue": [False]}, "list: names no issue"),
        ({"image_id": ["a"], "attribute": ["hats"]}, "'hats' is no attribute here; did you mean 'hat'?"),
        ({"image_id": ["z"], "attribute": ["hat"]}, "names no label of here"),
    ],
)
def test_a_list_of_something_else_is_refused(source, columns, text):
    with pytest.raises(ConfigError, match=text.replace("?", r"\?")):
        drop_issues(source, decode_issues(encode(**columns), "list"), "list")
