"""Logit adjustment against the formula of Menon et al. 2021, and label smoothing of single attributes."""

import math

import pytest
import torch
from torch.nn import functional

from faceattr.attributes import Attribute, AttributeSet
from faceattr.config.fit import FitConfig, LossConfig, compute_fingerprint
from faceattr.config.train import TrainConfig
from faceattr.errors import ConfigError
from faceattr.training.losses.logit_adjustment import AdjustedLoss, compute_adjustment
from faceattr.training.losses.multi_loss import build_objective
from faceattr.training.recipe import resolve_recipe
from tests.training.toy import AGE, ATTRIBUTES, HAT, TONE, ages, binary, build_toy, classes

TWO = Attribute(name="two", kind="multiclass", classes=("a", "b"))
COUNTS = {
    "hat": torch.tensor([90.0, 10.0]).double(),
    "tone": torch.tensor([70.0, 20.0, 10.0]).double(),
    "age": torch.ones(117).double(),
    "two": torch.tensor([80.0, 20.0]).double(),
}


def build(config, *attributes):
    model = build_toy(AttributeSet(attributes=attributes))
    return build_objective(model.attributes, model.head_configs, config, COUNTS)


def test_the_loss_of_classes_is_that_of_the_paper():
    """Equation 10: log(1 + sum over other classes c of (p_c / p_y) ** tau * exp(f_c - f_y))."""
    tau, p = 0.7, [0.7, 0.2, 0.1]
    outputs, labels = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), [0, 2, 1, 1, 0]
    wanted = [
        math.log(1 + sum((p[c] / p[y]) ** tau * math.exp(row[c] - row[y]) for c in range(3) if c != y))
        for row, y in zip(outputs.tolist(), labels, strict=True)
    ]
    loss = build(LossConfig(logit_adjustment=tau), TONE).loss_of("tone")
    torch.testing.assert_close(loss.losses(outputs, classes(labels, 3)), torch.tensor(wanted))
    torch.testing.assert_close(loss.weights(classes([0, None], 3)), torch.tensor([1.0, 0.0]))


def test_two_classes_and_yes_or_no_are_the_same():
    """One logit z is the difference of two: log p(yes) / p(no) = log 10 / 90 is added to it."""
    z = torch.tensor([[0.3], [-1.2], [2.0]])
    targets = binary([1, 0, 1])
    loss = build(LossConfig(logit_adjustment=1.0), HAT).loss_of("hat")
    wanted = functional.binary_cross_entropy_with_logits(z[:, 0] + math.log(10 / 90), targets.value, reduction="none")
    torch.testing.assert_close(loss.losses(z, targets), wanted)
    pair = build(LossConfig(logit_adjustment=1.0), TWO).loss_of("two")
    shifted = z[:, 0] + math.log(20 / 80)
    expected = functional.binary_cross_entropy_with_logits(shifted, targets.value, reduction="none")
    both = torch.cat([torch.zeros(3, 1), z], 1)
    torch.testing.assert_close(pair.losses(both, classes([1, 0, 1], 2)), expected)


def test_a_model_that_knows_only_frequencies_sees_classes_as_equally_frequent():
    objective = build(LossConfig(logit_adjustment=1.0), HAT, TONE)
    for name in ("hat", "tone"):
        constant = objective.loss_of(name).constant_outputs(COUNTS[name])
        shares = torch.cat([torch.zeros(1), constant]).softmax(0) if name == "hat" else constant.softmax(0)
        torch.testing.assert_close(shares, torch.full_like(shares, 1 / len(shares)))


def test_the_best_constant_is_the_minimum():
    loss = build(LossConfig(logit_adjustment=0.5, label_smoothing=0.1), TONE).loss_of("tone")
    best = loss.constant_outputs(COUNTS["tone"])

    def total(outputs):
        return float((COUNTS["tone"] * loss.losses(outputs.expand(3, -1), loss.examples())).sum())

    for step in torch.eye(3):
        assert total(best) < min(total(best + 0.05 * step), total(best - 0.05 * step))


def test_rare_classes_have_a_bound_and_classes_without_labels_none():
    found = compute_adjustment(torch.tensor([900.0, 1.0, 0.0]), 1.0, is_yes_no=False, max_ratio=100.0)
    torch.testing.assert_close(found, torch.tensor([math.log(900 / 901), math.log(9 / 901), 0.0]))


def test_adjusted_attributes_have_no_class_weights_and_others_keep_theirs():
    config = LossConfig(logit_adjustment=1.0, logit_adjusted=("tone",), class_weights="root")
    objective = build(config, TONE, TWO)
    assert isinstance(objective.loss_of("tone"), AdjustedLoss)
    assert objective.loss_of("tone").weights(classes([0, 1, 2], 3)).tolist() == [1.0, 1.0, 1.0]
    # 80 and 20 labels: 1 : sqrt(4), mean 1 over the labels.
    torch.testing.assert_close(objective.loss_of("two").weights(classes([0, 1], 2)), torch.tensor([5 / 6, 5 / 3]))


def test_ages_are_not_adjusted():
    objective = build(LossConfig(logit_adjustment=1.0), AGE)
    outputs, plain = torch.randn(1, 117), build(LossConfig(), AGE)
    found, wanted = (each.loss_of("age").losses(outputs, ages([30])) for each in (objective, plain))
    assert torch.equal(found, wanted)


def test_each_attribute_has_its_own_smoothing():
    config = LossConfig(label_smoothing=0.2, attribute_smoothing={"tone": 0.05})
    objective = build(config, HAT, TONE)
    outputs = torch.randn(3, 3, generator=torch.Generator().manual_seed(1))
    wanted = functional.cross_entropy(outputs, torch.tensor([0, 1, 2]), label_smoothing=0.05, reduction="none")
    torch.testing.assert_close(objective.loss_of("tone").losses(outputs, classes([0, 1, 2], 3)), wanted)
    soft = torch.tensor([0.9, 0.1, 0.9])
    wanted = functional.binary_cross_entropy_with_logits(outputs[:, 0], soft, reduction="none")
    torch.testing.assert_close(objective.loss_of("hat").losses(outputs[:, :1], binary([1, 0, 1])), wanted)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"attribute_smoothing": {"hat": 1.0}}, "--loss.attribute-smoothing.hat"),
        ({"logit_adjustment": -1.0}, "--loss.logit-adjustment"),
        ({"logit_adjusted": ("hat",)}, "--loss.logit-adjusted"),
        ({"logit_adjustment": 1.0, "class_weights": "balanced"}, "--loss.class-weights"),
        ({"logit_adjustment": 1.0, "class_weighted": ("hat",)}, "--loss.class-weighted"),
        (
            {"logit_adjustment": 1.0, "logit_adjusted": ("hat", "tone"), "class_weighted": ("tone",)},
            "--loss.class-weighted",
        ),
    ],
)
def test_settings_that_contradict_are_refused(values, key):
    with pytest.raises(ConfigError, match=f"^{key}: expected"):
        LossConfig(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"attribute_smoothing": {"cap": 0.1}}, r"--loss.attribute-smoothing: \['cap'\] are none of"),
        ({"logit_adjustment": 1.0, "logit_adjusted": ("cap",)}, r"--loss.logit-adjusted: \['cap'\] are none of"),
        ({"attribute_smoothing": {"age": 0.1}}, r"--loss.attribute-smoothing: .* found \['age'\]"),
        ({"logit_adjustment": 1.0, "logit_adjusted": ("age",)}, r"--loss.logit-adjusted: .* found \['age'\]"),
    ],
)
def test_names_that_do_not_fit_the_model_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        build(LossConfig(**values), *ATTRIBUTES.attributes[:3])


def test_the_recipe_and_fingerprints_of_earlier_runs_do_not_change():
    config = TrainConfig(data=("in",), output="out", loss=LossConfig(logit_adjustment=1.0))
    assert resolve_recipe(config, num_images=1_000).config.loss.class_weights == "root"
    texts = {compute_fingerprint(FitConfig(loss=LossConfig(**each))) for each in ({}, {"attribute_smoothing": {}})}
    assert len(texts) == 1
    assert compute_fingerprint(FitConfig(loss=LossConfig(logit_adjustment=1.0))) not in texts
