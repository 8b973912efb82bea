"""Weights that make every combination of classes equally likely, by hand."""

import numpy as np
import pyarrow as pa
import pytest

from faceattr.attributes import Attribute, AttributeSet
from faceattr.errors import ConfigError
from faceattr.training.balance import NO_CELL, ClassCombinations, weigh_cells, weigh_rows

ATTRIBUTES = AttributeSet(
    attributes=(
        Attribute(name="gender"),
        Attribute(name="race", kind="multiclass", classes=("a", "b", "c")),
        Attribute(name="age", kind="age", classes=()),
    )
)


def test_every_combination_gets_the_same_share():
    table = pa.table(
        {
            "gender": pa.array([0, 0, 0, 1, 1, 0, None, 1], pa.int8()),
            "race": pa.array([2, 2, 2, 2, 2, 1, 2, None], pa.int16()),
        }
    )
    cells = ClassCombinations(ATTRIBUTES, ["gender", "race"])
    found = cells.find(table)
    assert found.tolist() == [2, 2, 2, 5, 5, 1, NO_CELL, NO_CELL]
    counts = cells.count(table)
    assert counts.tolist() == [0, 1, 3, 0, 0, 2]
    # Three cells share the weight of six rows; rows without a label keep 1.
    weights = weigh_rows(found, weigh_cells(counts))
    assert weights.tolist() == pytest.approx([2 / 3] * 3 + [1.0] * 2 + [2.0] + [1.0] * 2)
    assert weights.mean() == pytest.approx(1.0)


def test_without_any_label_nothing_is_balanced():
    assert weigh_cells(np.zeros(6, np.int64)).tolist() == [0.0] * 6


@pytest.mark.parametrize(
    ("names", "problem"),
    [(["hat"], r"\['hat'\] are none of the learnt attributes"), (["gender", "age"], "are ages, which have no classes")],
)
def test_what_cannot_be_balanced_is_refused(names, problem):
    with pytest.raises(ConfigError, match=f"--feed.balance: .*{problem}"):
        ClassCombinations(ATTRIBUTES, names)


def test_too_many_combinations_are_refused():
    persons = Attribute(name="person", kind="identity", classes=tuple(f"p{i}" for i in range(2_000)))
    crowd = AttributeSet(attributes=(persons, Attribute(name="other", kind="identity", classes=persons.classes)))
    with pytest.raises(ConfigError, match="4,000,000 combinations"):
        ClassCombinations(crowd, ["person", "other"])
