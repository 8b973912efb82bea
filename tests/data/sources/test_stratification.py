"""Rates by split, flags against the residuals of an independent chi-square, and labels as text that reads back."""

import numpy as np
import pyarrow as pa
import pytest

from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.label_columns import source_schema
from faceattr.data.packed.label_counts import COUNT_SCHEMA
from faceattr.data.packed.stratification import compute_rates, describe_flags, rates_table
from faceattr.data.sources.label_values import label_texts
from faceattr.data.sources.options import SourceOptions
from faceattr.data.sources.registry import open_source


def counts(**by_class):
    """Counts of one attribute: class to (train, val, test)."""
    found = [
        {"split": split, "attribute": "hat", "class": name, "count": number}
        for name, numbers in by_class.items()
        for split, number in zip(("train", "val", "test"), numbers, strict=True)
    ]
    return pa.Table.from_pylist(found, schema=COUNT_SCHEMA)


def test_rates_and_differences():
    no, yes, unknown = compute_rates(counts(no=(75, 9, 0), yes=(25, 1, 0), unknown=(5, 0, 2)))
    assert dict(no.rates) == {"train": 0.75, "val": 0.9, "test": None}
    assert yes.largest_difference == pytest.approx(0.15)
    assert dict(unknown.rates) == {"train": None, "val": None, "test": None}
    assert unknown.largest_difference is None
    assert (yes.flagged, no.flagged) == ((), ())  # ten images say little
    table = rates_table([no, yes, unknown]).to_pylist()
    assert (table[1]["train"], table[1]["val_rate"], table[1]["flagged"]) == (25, 0.1, "")


@pytest.mark.parametrize(
    ("numbers", "flagged"),
    [
        ({"no": (8000, 1000, 1000), "yes": (2000, 250, 250)}, ()),
        ({"no": (8000, 900, 1000), "yes": (2000, 350, 250)}, ("val",)),
        # Significant beyond doubt, and under two points: nobody needs to care.
        ({"no": (8_000_000, 1_000_000, 990_000), "yes": (2_000_000, 250_000, 260_000)}, ()),
    ],
)
def test_flags(numbers, flagged):
    rates = compute_rates(counts(**numbers))
    assert rates[1].flagged == flagged
    # The adjusted residuals by the book (Agresti): (observed - expected) / sqrt(expected (1 - row share) (1 - column
    # share)).
    observed = np.array([numbers["no"], numbers["yes"]], float)
    total = observed.sum()
    rows, columns = observed.sum(1, keepdims=True), observed.sum(0, keepdims=True)
    expected = rows * columns / total
    residuals = (observed - expected) / np.sqrt(expected * (1 - rows / total) * (1 - columns / total))
    differences = np.abs(observed / columns - rows / total)
    over = (np.abs(residuals[1]) > 4) & (differences[1] > 0.02)
    assert rates[1].flagged == tuple(split for split, hit in zip(("train", "val", "test"), over, strict=True) if hit)
    lines = describe_flags(rates)
    assert bool(lines) == bool(flagged)
    assert all("val 28.0%" in line for line in lines[1:])


def test_label_texts_read_back_as_the_same_labels(tmp_path):
    race = Attribute(name="race", kind="multiclass", classes=("White", "Black", "East Asian"))
    person = Attribute(name="person", kind="identity", classes=("ann", "bob"))
    age = Attribute(name="age", kind="age", classes=())
    attributes = AttributeSet(attributes=(Attribute(name="hat"), race, age, person))
    given = [
        {"hat": 1, "race": 2, "age_low": 25.0, "age_high": 26.0, "person": 0},
        {"hat": 0, "race_mask": 6, "age_low": 20.0, "age_high": 30.0, "person": 1},
        {"age_low": 70.0, "age_high": 117.0, "person": 1},
    ]
    schema = source_schema(attributes)
    rows = [{"image_id": f"{n}.jpg", "uri": f"{tmp_path}/{n}.jpg", **row} for n, row in enumerate(given)]
    table = pa.Table.from_pylist(rows, schema=schema)
    texts = {each.name: label_texts(each, table) for each in attributes.attributes}
    assert texts == {
        "hat": ["1", "0", ""],
        "race": ["East Asian", "Black|East Asian", ""],
        "age": ["25", "20-29", "70+"],
        "person": ["ann", "bob", "bob"],
    }
    lines = ["image_id,hat,race,age,person"]
    lines += [f"{n}.jpg," + ",".join(column[n] for column in texts.values()) for n in range(3)]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    columns = ("hat=hat", "race=race:White|Black|East Asian", "age=age:age", "person=person:identity")
    found, rejects = open_source("table", str(tmp_path), options=SourceOptions(columns=columns)).read_all()
    assert rejects.total == 0
    labels = [each.name for each in schema if each.name not in ("group",)]
    assert found.select(labels).equals(table.select(labels))
