"""Weights that make every combination of classes equally likely, by hand."""

import numpy as np
import pyarrow as pa
import pytest

from faceattr.attributes import Attribute, AttributeSet
from faceattr.config.train import FeedConfig
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


def test_attributes_of_the_data_that_are_missing_are_refused():
    with pytest.raises(ConfigError, match=r"--feed.balance: \['hat'\] are none of the data's attributes"):
        ClassCombinations(ATTRIBUTES, ["hat"])


def test_ages_are_classed_by_decade():
    """A range counts if it is within a decade; 20 to 30 (excluded) is, 19 to 21 is not."""
    pairs = [(25, 26), (20, 30), (19, 21), None, (0, 1), (116, 117), (10, 20)]
    table = pa.table(
        {
            "age_low": pa.array([each and float(each[0]) for each in pairs], pa.float32()),
            "age_high": pa.array([each and float(each[1]) for each in pairs], pa.float32()),
            "gender": pa.array([1] * 7, pa.int8()),
        }
    )
    ages = ClassCombinations(ATTRIBUTES, ["age"])
    assert (ages.columns, ages.num_cells) == (("age_low", "age_high"), 12)
    assert ages.find(table).tolist() == [2, 2, NO_CELL, NO_CELL, 0, 11, 1]
    both = ClassCombinations(ATTRIBUTES, ["gender", "age"])
    assert both.columns == ("gender", "age_low", "age_high")
    assert both.find(table).tolist() == [14, 14, NO_CELL, NO_CELL, 12, 23, 13]


def test_a_power_of_one_half_draws_in_proportion_to_square_roots():
    counts = np.array([16, 0, 4, 1])
    weights = weigh_cells(counts, 0.5)
    drawn = weights * counts
    # Of 21 rows, 4 : 2 : 1 parts are drawn of the cells.
    assert drawn.tolist() == pytest.approx([12.0, 0.0, 6.0, 3.0])
    assert weigh_cells(counts, 1.0).tolist() == pytest.approx([7 / 16, 0.0, 7 / 4, 7.0])


@pytest.mark.parametrize(
    "settings", [{"balance": ("hat",), "balance_power": 0.0}, {"balance": ("hat",), "balance_power": 1.5}]
)
def test_a_power_out_of_range_is_refused(settings):
    with pytest.raises(ConfigError, match=r"--feed.balance-power: expected more than 0, at most 1, found"):
        FeedConfig(**settings)
    with pytest.raises(ConfigError, match=r"--feed.balance-power: expected 1 without --feed.balance, found 0.5"):
        FeedConfig(balance_power=0.5)


def test_too_many_combinations_are_refused():
    persons = Attribute(name="person", kind="identity", classes=tuple(f"p{i}" for i in range(2_000)))
    crowd = AttributeSet(attributes=(persons, Attribute(name="other", kind="identity", classes=persons.classes)))
    with pytest.raises(ConfigError, match="4,000,000 combinations"):
        ClassCombinations(crowd, ["person", "other"])
