import pytest
import torch
from sklearn.metrics import f1_score
from torch import nn

from faceattr.config.search import ObjectiveConfig
from faceattr.errors import ConfigError, RunError
from faceattr.search.judge import Judge, Recorder, compute_final_figures
from tests.training.toy import ATTRIBUTES, ages, binary, classes

TARGETS = {
    "hat": binary([0, 0, 1, 1, None, 1, 0, 1]),
    "tone": classes([0, 1, 2, 2, None, 1, 0, 0], 3),
    "age": ages([20, 30, 40, (10, 20), None, 50, 60, 70]),
    "person": classes([0, 1, 2, 3, None, 0, 1, 2], 4),
}


def logits(classes, num):
    return nn.functional.one_hot(torch.tensor(classes), num) * 9.0


def outputs():
    return {
        "hat": torch.tensor([-9.0, -8.0, 7.0, 8.0, 9.0, 9.0, -7.0, 6.0])[:, None],
        "tone": logits([0, 1, 2, 1, 0, 1, 0, 0], 3),
        "age": torch.tensor([22.0, 34.0, 48.0, 15.0, 0.0, 50.0, 61.0, 70.0])[:, None],
        "person": logits([0, 1, 2, 3, 0, 0, 1, 0], 4),
    }


def judge(main="hat", **settings):
    return Judge(ATTRIBUTES, ObjectiveConfig(**settings), main=main, seed=0)


def test_every_attribute_is_judged_by_its_own_figure():
    found = judge().judge(outputs(), TARGETS)
    # All yes score nearly 1 and all no nearly 0: every half finds a cut that judges the other half rightly.
    assert found.by_attribute["hat"] == 1.0
    assert found.thresholds["hat"] == pytest.approx(0.5, abs=0.01)
    assert list(found.thresholds) == ["hat"]
    assert found.by_attribute["tone"] == pytest.approx(
        f1_score([0, 1, 2, 2, 1, 0, 0], [0, 1, 2, 1, 1, 0, 0], average="macro")
    )
    assert found.by_attribute["age"] == pytest.approx(5 / 6)  # 48 for 40 is 8 years off
    assert found.by_attribute["person"] == pytest.approx(6 / 7)
    others = [found.by_attribute[name] for name in ("tone", "age", "person")]
    assert found.auxiliary == pytest.approx(sum(others) / 3)
    assert found.objective == 1.0


def test_objectives():
    values = judge().judge(outputs(), TARGETS)
    mixed = judge(auxiliary_weight=0.25).judge(outputs(), TARGETS)
    assert mixed.objective == pytest.approx(0.75 + 0.25 * values.auxiliary)
    two = judge(auxiliary_weight=0.25, two=True).judge(outputs(), TARGETS)
    assert two.objective == values.objective
    mean = judge(main=None).judge(outputs(), TARGETS)
    assert mean.objective == pytest.approx(sum(values.by_attribute.values()) / 4)
    assert mean.auxiliary is None
    with pytest.raises(ConfigError, match=r"--objective\.two"):
        judge(main=None, two=True)


def test_attributes_with_too_few_labels_are_left_out():
    targets = {**TARGETS, "hat": binary([1, 1, 1, 1, 1, 1, 0, None])}
    found = judge(main=None).judge(outputs(), targets)
    assert "hat" not in found.by_attribute
    with pytest.raises(RunError, match="too few labels of hat"):
        judge(main="hat").judge(outputs(), targets)


def test_final_figures_use_the_thresholds_that_were_chosen():
    half = [slice(0, 4), slice(4, 8)]
    given = [{name: each[part] for name, each in outputs().items()} for part in half]
    rows = [torch.arange(8)[part] for part in half]
    targets = [{name: each.take(part) for name, each in TARGETS.items()} for part in rows]
    low = compute_final_figures(judge(), given, targets, {"hat": 0.2})
    assert low["by_attribute"]["hat"] == 1.0
    assert low["figures"]["hat/f1"] == 1.0
    high = compute_final_figures(judge(), given, targets, {"hat": 0.998})
    assert high["by_attribute"]["hat"] == pytest.approx(f1_score([0, 0, 1, 1, 1, 0, 1], [0, 0, 1, 1, 1, 0, 0]))
    assert high["by_attribute"]["age"] == pytest.approx(5 / 6)
    assert high["num_rows"] == 8


def test_outputs_of_validation_are_kept_and_those_of_training_are_not():
    kept = []

    class Network(nn.Module):
        def forward(self, x):
            return {"hat": x * 2}

    network = Recorder(Network(), kept)
    network.train()(torch.ones(2, 1))
    assert kept == []
    network.eval()(torch.ones(2, 1))
    assert kept[0]["hat"].tolist() == [[2.0], [2.0]]
