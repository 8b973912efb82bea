"""The ordinal loss against sums of binary cross entropies, and what it does with the order of classes."""

import math

import pytest
import torch
from torch.nn import functional

from faceattr.config.fit import FitConfig, LossConfig, OptimConfig
from faceattr.errors import ConfigError
from faceattr.training.loop.fit import EpochBatches, fit
from faceattr.training.loop.ranks import Ranks
from faceattr.training.losses.attribute_loss import ClassLoss, build_attribute_loss
from faceattr.training.losses.multi_loss import build_objective
from faceattr.training.losses.ordinal import compute_ordinal_scale, ordinal_cross_entropy
from tests.training.toy import ATTRIBUTES, TONE, build_toy, classes, count, make_batch

ONES = torch.ones(4)


def logits(num, outputs=4, seed=0):
    return torch.randn(num, outputs, generator=torch.Generator().manual_seed(seed)).double()


def test_by_hand():
    """P = (1, 2, 5) / 8: P(> 0) = 7/8, P(> 1) = 5/8, so the losses are log 8 + log 8/3, log 8/7 + log 8/3, ..."""
    rows = torch.tensor([[1.0, 2.0, 5.0]]).log().expand(3, -1)
    found = ordinal_cross_entropy(rows, torch.tensor([0, 1, 2]), weight=torch.ones(3), label_smoothing=0.0)
    wanted = [
        math.log(8 / 1) + math.log(8 / 3),
        math.log(8 / 7) + math.log(8 / 3),
        math.log(8 / 7) + math.log(8 / 5),
    ]
    torch.testing.assert_close(found, torch.tensor(wanted))


def test_it_is_the_sum_of_binary_cross_entropies():
    rows, labels = logits(6), torch.tensor([0, 3, 1, 2, 2, 0])
    above = 1 - rows.softmax(1).cumsum(1)[:, :-1]
    is_above = (labels[:, None] > torch.arange(3)).double()
    wanted = functional.binary_cross_entropy(above, is_above, reduction="none").sum(1)
    found = ordinal_cross_entropy(rows, labels, weight=ONES.double(), label_smoothing=0.0)
    torch.testing.assert_close(found, wanted)


def test_soft_labels_are_soft_answers():
    rows, score = logits(2), torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.0, 0.5, 0.5, 0.0]]).double()
    above, share_above = (1 - each.cumsum(1)[:, :-1] for each in (rows.softmax(1), score))
    wanted = functional.binary_cross_entropy(above, share_above, reduction="none").sum(1)
    found = ordinal_cross_entropy(rows, score, weight=ONES.double(), label_smoothing=0.0)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_two_classes_have_the_cross_entropy(smoothing):
    rows, labels, weight = logits(5, 2), torch.tensor([0, 1, 1, 0, 1]), torch.tensor([0.5, 2.0]).double()
    wanted = functional.cross_entropy(rows, labels, weight=weight, label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(ordinal_cross_entropy(rows, labels, weight=weight, label_smoothing=smoothing), wanted)
    hot = functional.one_hot(labels, 2).double()
    torch.testing.assert_close(ordinal_cross_entropy(rows, hot, weight=weight, label_smoothing=smoothing), wanted)


def test_far_classes_cost_more():
    sure_of_the_first = torch.tensor([[8.0, 0.0, 0.0, 0.0]]).expand(4, -1)
    labels = torch.arange(4)
    ordered = ordinal_cross_entropy(sure_of_the_first, labels, weight=ONES, label_smoothing=0.0)
    assert ordered.diff().min() > 5
    plain = functional.cross_entropy(sure_of_the_first, labels, reduction="none")
    assert plain[1] == plain[2] == plain[3]


def test_gradients_are_right_and_finite_for_extreme_outputs():
    rows = logits(3).requires_grad_()
    labels, weight = torch.tensor([0, 2, 3]), ONES.double()
    torch.autograd.gradcheck(lambda x: ordinal_cross_entropy(x, labels, weight=weight, label_smoothing=0.1), (rows,))
    extreme = torch.tensor([[200.0, -200.0, 0.0, 200.0]], requires_grad=True)
    ordinal_cross_entropy(extreme, torch.tensor([1]), weight=ONES, label_smoothing=0.0).sum().backward()
    assert extreme.grad.isfinite().all()


def test_the_best_constant_is_the_share_of_each_class():
    counts = torch.tensor([5.0, 2.0, 3.0]).double()
    loss = build_attribute_loss(TONE, LossConfig(ordinal=("tone",)), counts, age_output="distribution")
    best = loss.constant_outputs(counts)

    def total(outputs):
        return float((counts * loss.losses(outputs.expand(3, -1), loss.examples())).sum())

    for step in torch.eye(3):
        assert total(best) < min(total(best + 0.05 * step), total(best - 0.05 * step))


def test_without_knowledge_it_is_as_large_as_the_cross_entropy():
    """Shares 1/2, 1/4, 1/4: an entropy of 3/2 bits; the questions have 1 bit and that of 1/4, 0.811 bits."""
    counts = torch.tensor([2.0, 1.0, 1.0])
    assert compute_ordinal_scale(counts) == pytest.approx(1.5 / (1 + 0.8112781))
    assert compute_ordinal_scale(torch.tensor([3.0, 1.0])) == pytest.approx(1.0)
    assert compute_ordinal_scale(torch.tensor([3.0, 0.0, 0.0])) == 1.0
    plain, ordinal = (
        build_attribute_loss(TONE, LossConfig(ordinal=names), counts.double(), age_output="distribution")
        for names in ((), ("tone",))
    )
    assert ordinal.compute_prior(counts.double()) == pytest.approx(plain.compute_prior(counts.double()))


def test_coarse_and_missing_labels_are_as_without_an_order():
    rows = logits(3, 3).float()
    targets = classes([{0, 1}, None, {1, 2}], 3)
    found = ClassLoss(LossConfig(), 3, ordinal_scale=1.0).losses(rows, targets)
    torch.testing.assert_close(found, ClassLoss(LossConfig(), 3).losses(rows, targets))


def test_a_training_with_it_learns():
    train = [make_batch(64, seed) for seed in range(4)]
    result = fit(
        build_toy(),
        EpochBatches(train=lambda epoch: train, val=lambda: iter([make_batch(64, 9)]), num_train=4),
        FitConfig(loss=LossConfig(ordinal=("tone",)), optim=OptimConfig(lr=0.02, epochs=12)),
        counts=count(train),
        ranks=Ranks(device=torch.device("cpu")),
    )
    first, last = result.history[0], result.history[-1]
    assert last["val/tone/loss"] < 0.85 * first["val/tone/loss"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hat", r"--loss.ordinal: expected attributes with several classes in an order \(tone\), found \['hat'\]"),
        ("age", r"--loss.ordinal: expected .* found \['age'\]"),
        ("person", r"--loss.ordinal: expected .* found \['person'\]"),
        ("cap", r"--loss.ordinal: \['cap'\] are none of the model's attributes"),
    ],
)
def test_only_attributes_with_ordered_classes(name, message):
    model = build_toy(ATTRIBUTES)
    config = LossConfig(ordinal=(name,))
    with pytest.raises(ConfigError, match=message):
        build_objective(model.attributes, model.head_configs, config, count([make_batch(32, 0)]))
