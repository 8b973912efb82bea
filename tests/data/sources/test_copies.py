"""Copies of one image: which labels conflict, what each policy does, and rows of several tables made one."""

import pyarrow as pa
import pytest

from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.label_columns import source_schema
from faceattr.data.packed.copies.identical import CopyResolver, encode_conflicts

RACE = Attribute(name="race", kind="multiclass", classes=("White", "Black", "Asian"))
ATTRIBUTES = AttributeSet(attributes=(Attribute(name="hat"), RACE, Attribute(name="age", kind="age", classes=())))
SCHEMA = source_schema(ATTRIBUTES, ["hat"]).append(pa.field("place", pa.int16(), nullable=False))
LABELS = ("hat", "hat_score", "race", "race_mask", "age_low", "age_high")


def rows(*given):
    """Rows of (image_id, content, place, labels)."""
    found = [
        {"image_id": name, "uri": name, "sha256": sha, "place": place, **labels} for name, sha, place, labels in given
    ]
    return pa.Table.from_pylist(found, schema=SCHEMA)


def labels_of(table):
    return {row["image_id"]: {name: row[name] for name in LABELS if row[name] is not None} for row in table.to_pylist()}


CONFLICTING = (
    ("a", "x", 0, {"hat": 1, "hat_score": 0.75, "race": 0}),
    ("b", "x", 0, {"hat": 0, "race_mask": 5}),  # White or Asian: no conflict with White
    ("c", "y", 0, {"age_low": 20.0, "age_high": 30.0}),
    ("d", "y", 0, {"age_low": 30.0, "age_high": 31.0, "hat": 1}),
    ("e", "z", 0, {"hat": 1}),
    ("f", None, 0, {"hat": 1}),
    ("g", None, 0, {"hat": 0}),  # two images that could not be read are no copies
)


def test_masking_forgets_what_cannot_all_be_true():
    resolver = CopyResolver(ATTRIBUTES, "mask")
    assert labels_of(resolver.resolve(rows(*CONFLICTING))) == {
        "a": {"race": 0},
        "b": {"race_mask": 5},
        "c": {},
        "d": {"hat": 1},
        "e": {"hat": 1},
        "f": {"hat": 1},
        "g": {"hat": 0},
    }
    assert (resolver.num_contents, resolver.num_masked, resolver.num_dropped, resolver.num_merged) == (2, 4, 0, 0)
    assert encode_conflicts(resolver.conflicts).decode().splitlines() == [
        "sha256,attribute,image_id,label",
        "x,hat,a,1",
        "x,hat,b,0",
        "y,age,c,20-29",
        "y,age,d,30",
    ]


def test_keeping_and_dropping():
    keep = CopyResolver(ATTRIBUTES, "keep")
    assert keep.resolve(rows(*CONFLICTING)).equals(rows(*CONFLICTING))
    drop = CopyResolver(ATTRIBUTES, "drop")
    assert drop.resolve(rows(*CONFLICTING))["image_id"].to_pylist() == ["e", "f", "g"]
    assert (drop.num_contents, drop.num_dropped) == (2, 4)
    assert drop.conflicts == keep.conflicts


def test_tables_over_the_same_images_become_one():
    resolver = CopyResolver(ATTRIBUTES, "mask")
    given = rows(
        ("p/1", "x", 0, {"hat": 1, "race_mask": 3}),
        ("p/2", "y", 0, {"hat": 0}),
        ("q/0", None, 1, {"hat": 0}),
        ("q/1", "x", 1, {"race": 1, "age_low": 20.0, "age_high": 30.0}),
        ("q/3", "z", 1, {"race": 2}),
    )
    found = resolver.resolve(given)
    assert found.schema.equals(SCHEMA)
    assert labels_of(found) == {
        "p/1": {"hat": 1, "race": 1, "age_low": 20.0, "age_high": 30.0},  # the class is what is known, not the set
        "p/2": {"hat": 0},
        "q/0": {"hat": 0},
        "q/3": {"race": 2},
    }
    assert found["image_id"].to_pylist() == ["p/1", "p/2", "q/0", "q/3"]
    assert (resolver.num_merged, resolver.num_contents) == (1, 0)


def test_copies_inside_one_table_stay_apart():
    resolver = CopyResolver(ATTRIBUTES, "mask")
    given = rows(
        ("p/1", "x", 0, {"hat": 1}),
        ("p/2", "x", 0, {}),
        ("q/1", "x", 1, {"race": 0}),
        ("q/2", "x", 1, {"age_low": 3.0, "age_high": 4.0}),
        ("q/3", "x", 1, {"hat": 1}),
    )
    assert labels_of(resolver.resolve(given)) == {
        "p/1": {"hat": 1, "race": 0},
        "p/2": {"age_low": 3.0, "age_high": 4.0},
        "q/3": {"hat": 1},
    }


@pytest.mark.parametrize(("policy", "hat"), [("mask", None), ("keep", 1)])
def test_a_conflict_between_tables(policy, hat):
    given = rows(("p/1", "x", 0, {"hat": 1}), ("q/1", "x", 1, {"hat": 0, "race": 2}))
    (row,) = CopyResolver(ATTRIBUTES, policy).resolve(given).to_pylist()
    assert (row["image_id"], row["hat"], row["race"]) == ("p/1", hat, 2)


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        # The first place abstained, the second is a person's: the label is learnt, and not the wavering score.
        ({"hat_score": 0.45}, {"hat": 1}, {"hat": 1}),
        ({"hat_score": 0.45}, {"hat": 1, "hat_score": 0.875}, {"hat": 1, "hat_score": 0.875}),
        ({"hat": 0, "hat_score": 0.25}, {"hat": 0, "hat_score": 0.125}, {"hat": 0, "hat_score": 0.25}),
        ({"hat": 0}, {"hat_score": 0.875}, {"hat": 0}),
        ({"hat_score": 0.45}, {"hat_score": 0.625}, {"hat_score": pytest.approx(0.45)}),
    ],
)
def test_a_score_goes_with_the_label(first, second, wanted):
    given = rows(("p/1", "x", 0, first), ("q/1", "x", 1, second), ("q/2", "y", 1, {"hat": 1, "hat_score": 0.75}))
    found = labels_of(CopyResolver(ATTRIBUTES, "mask").resolve(given))
    assert found == {"p/1": wanted, "q/2": {"hat": 1, "hat_score": 0.75}}


def test_the_score_of_an_overruled_label_is_not_kept():
    given = rows(("p/1", "x", 0, {"hat": 0}), ("q/1", "x", 1, {"hat": 1, "hat_score": 0.875}))
    assert labels_of(CopyResolver(ATTRIBUTES, "keep").resolve(given)) == {"p/1": {"hat": 0}}
