"""Conflicting copies of every kind of label, and the stratification report by hand."""

import pyarrow as pa

from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.label_columns import source_schema
from faceattr.data.packed.copies.identical import DuplicateGroup, find_duplicates
from faceattr.data.packed.label_counts import LabelCounts
from faceattr.data.sources.face_classes import FACE_ATTRIBUTES

ATTRIBUTES = AttributeSet(
    attributes=(
        Attribute(name="hat"),
        FACE_ATTRIBUTES["age"],
        FACE_ATTRIBUTES["race"],
        Attribute(name="identity", kind="identity", classes=("a", "b")),
    )
)


def table(*rows):
    complete = [{"image_id": f"{i}.jpg", "uri": f"{i}.jpg", **row} for i, row in enumerate(rows)]
    return pa.Table.from_pylist(complete, schema=source_schema(ATTRIBUTES))


def conflicts(*rows):
    data = table(*({"sha256": "same", **row} for row in rows))
    (group,) = find_duplicates(lambda: [data.slice(0, 1), data.slice(1)], ATTRIBUTES)
    return group.conflicts


def test_only_repeated_contents_are_listed():
    data = table(
        {"sha256": "b", "hat": 1}, {"sha256": "a"}, {"sha256": None}, {"sha256": None}, {"sha256": "b", "hat": 0}
    )
    assert find_duplicates(lambda: [data], ATTRIBUTES) == [
        DuplicateGroup(sha256="b", image_ids=("0.jpg", "4.jpg"), conflicts=("hat",))
    ]
    assert find_duplicates(lambda: [data.slice(1)], ATTRIBUTES) == []


def test_what_conflicts():
    assert conflicts({"hat": 1}, {"hat": 1}) == ()
    assert conflicts({"hat": 1}, {"hat": None}) == ()
    assert conflicts({"hat": 1}, {"hat": 0}) == ("hat",)
    assert conflicts({"identity": 0}, {"identity": 1}) == ("identity",)
    assert conflicts({"race": 3}, {"race_mask": 0b11000}) == ()
    assert conflicts({"race": 0}, {"race_mask": 0b11000}) == ("race",)
    assert conflicts({"race_mask": 0b11000}, {"race_mask": 0b1000100}) == ("race",)
    assert conflicts({"age_low": 25, "age_high": 26}, {"age_low": 20, "age_high": 30}) == ()
    assert conflicts({"age_low": 30, "age_high": 31}, {"age_low": 20, "age_high": 30}) == ("age",)
    # Each pair of three fits, all three do not.
    assert conflicts({"race_mask": 0b011}, {"race_mask": 0b110}, {"race_mask": 0b101}) == ("race",)


def test_counts_by_hand():
    counts = LabelCounts(ATTRIBUTES)
    data = table(
        {"hat": 1, "age_low": 25, "age_high": 26, "race": 0, "identity": 0},
        {"hat": 0, "age_low": 20, "age_high": 30, "race_mask": 0b11000},
        {"hat": 1, "age_low": 29, "age_high": 30},
        {"hat": None, "age_low": 100, "age_high": 101, "race": 6},
    )
    counts.add(data.slice(0, 2), pa.array(["train", "train"]))
    counts.add(data.slice(2), pa.array(["train", "val"]))
    found = {(row["split"], row["attribute"], row["class"]): row["count"] for row in counts.to_table().to_pylist()}
    assert {key: value for key, value in found.items() if value} == {
        ("train", "hat", "yes"): 2,
        ("train", "hat", "no"): 1,
        ("val", "hat", "unknown"): 1,
        ("train", "age", "20-29"): 3,
        ("val", "age", "100-109"): 1,
        ("train", "race", "White"): 1,
        ("train", "race", "East Asian|Southeast Asian"): 1,
        ("train", "race", "unknown"): 1,
        ("val", "race", "Middle Eastern"): 1,
        ("train", "identity", "a"): 1,
        ("train", "identity", "unknown"): 2,
        ("val", "identity", "unknown"): 1,
    }
    assert found["val", "hat", "yes"] == 0
    assert counts.rows == {"train": 3, "val": 1}
    assert counts.problems() == [
        "the split 'test' is empty",
        "attribute 'race' has no label Black, Latino_Hispanic, Indian, Middle Eastern in train",
        "attribute 'identity' has no label b in train",
    ]


def test_an_attribute_without_labels_in_train():
    counts = LabelCounts(AttributeSet(attributes=(Attribute(name="hat"),)))
    counts.add(table({}, {"hat": 1}, {"hat": 0}), pa.array(["train", "val", "test"]))
    assert counts.problems() == ["attribute 'hat' has no label in train"]
