import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from faceattr.errors import ConfigError
from faceattr.training.losses.class_weights import LabelTotals, compute_class_weights, compute_pos_weight
from tests.training.toy import ATTRIBUTES, ages, binary, classes


def test_labels_are_counted():
    totals = LabelTotals(ATTRIBUTES)
    targets = {
        "hat": binary([1, 0, 0, None, None], score=[None, None, None, 0.75, None]),
        "tone": classes([0, {0, 2}, 2, None, 2], 3),
        "age": ages([30, (20, 22), None, 20, 20]),
        "person": classes([3, 3, None, 0, 1], 4),
    }
    totals.add(targets)
    totals.add(targets)
    assert totals.counts["hat"].tolist() == [4.5, 3.5]
    assert totals.counts["tone"].tolist() == [3.0, 0.0, 5.0]
    years = totals.counts["age"]
    assert {int(i): float(years[i]) for i in years.nonzero()} == {20: 5.0, 21: 1.0, 30: 2.0}
    assert totals.counts["person"].tolist() == [2.0, 2.0, 0.0, 4.0]
    totals.check()


def test_attributes_without_labels_are_named():
    totals = LabelTotals(ATTRIBUTES)
    targets = {"hat": binary([1]), "tone": classes([None], 3), "age": ages([None]), "person": classes([1], 4)}
    totals.add(targets)
    with pytest.raises(ConfigError, match=r"\['tone', 'age'\]"):
        totals.check()


def test_balanced_weights_equal_sklearn():
    labels = np.repeat([0, 1, 2], [10, 30, 5])
    wanted = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    found = compute_class_weights(torch.tensor([10.0, 30.0, 5.0]), "balanced")
    assert found.tolist() == pytest.approx(wanted.tolist())


def test_effective_numbers_by_hand():
    # N = 4: b = 3/4; (1 - b^3) / (1 - b) = 37/16, (1 - b) / (1 - b) = 1.
    found = compute_class_weights(torch.tensor([3.0, 1.0]), "effective")
    assert float(found[1] / found[0]) == pytest.approx(37 / 16)
    assert float((found * torch.tensor([3.0, 1.0])).sum()) == pytest.approx(4.0)


def test_absent_and_rare_classes():
    found = compute_class_weights(torch.tensor([1000.0, 0.0, 1.0]), "balanced", max_ratio=10.0)
    assert found[1] == 0.0
    assert float(found[2] / found[0]) == pytest.approx(10.0)
    assert float(found[0] * 1000 + found[2]) == pytest.approx(1001.0, rel=1e-5)
    with pytest.raises(ConfigError, match="at least one label"):
        compute_class_weights(torch.zeros(2), "balanced")


def test_pos_weight_is_no_over_yes():
    assert float(compute_pos_weight(torch.tensor([90.0, 30.0]))) == pytest.approx(3.0)
    assert float(compute_pos_weight(torch.tensor([30.0, 90.0]))) == pytest.approx(1 / 3)
    assert float(compute_pos_weight(torch.tensor([9999.0, 1.0]), max_ratio=50.0)) == pytest.approx(50.0)
    assert float(compute_pos_weight(torch.tensor([7.0, 0.0]))) == 1.0
