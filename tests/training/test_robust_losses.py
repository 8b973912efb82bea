"""Noise-robust losses against the papers' formulas, in numpy loops over single rows, and by hand."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from faceattr.config.fit import LossConfig
from faceattr.errors import ConfigError
from faceattr.training.losses.attribute_loss import BinaryLoss, ClassLoss
from tests.training.toy import binary, classes

GENERATOR = torch.Generator().manual_seed(3)
LOSSES = {
    "generalised": LossConfig(robust="generalised", robust_q=0.4),
    "symmetric": LossConfig(robust="symmetric", symmetric_weights=(0.3, 0.8)),
}


def softmax(logits):
    exponents = np.exp(np.array(logits, np.float64))
    return exponents / exponents.sum()


def reference(name, logits, target, class_weights=None):
    """One row: the formulas of Zhang & Sabuncu 2018 (L_q) and Wang et al. 2019 (SL), for any distribution as target."""
    p, total = softmax(logits), 0.0
    weights = np.ones(len(p)) if class_weights is None else class_weights
    for chosen in range(len(p)):
        if name == "generalised":
            value = (1 - p[chosen] ** 0.4) / 0.4
        else:
            log_target = [max(math.log(each), -4.0) if each > 0 else -4.0 for each in target]
            reversed_entropy = -sum(p[each] * log_target[each] for each in range(len(p)))
            value = 0.3 * -math.log(p[chosen]) + 0.8 * reversed_entropy
        total += weights[chosen] * target[chosen] * value
    return total


@pytest.mark.parametrize("name", LOSSES)
def test_classes_with_labels_scores_and_weights(name):
    x = torch.randn(4, 3, generator=GENERATOR)
    weights = torch.tensor([0.5, 1.0, 2.0])
    score = torch.tensor([[math.nan] * 3, [0.2, 0.7, 0.1], [math.nan] * 3, [1.0, 0.0, 0.0]])
    losses = ClassLoss(LOSSES[name], 3, weights).losses(x, classes([2, None, 0, 1], 3, score=score))
    targets = [[0, 0, 1], [0.2, 0.7, 0.1], [1, 0, 0], [1, 0, 0]]
    wanted = [reference(name, row, target, [0.5, 1.0, 2.0]) for row, target in zip(x.tolist(), targets, strict=True)]
    torch.testing.assert_close(losses, torch.tensor(wanted, dtype=torch.float32))


@pytest.mark.parametrize("name", LOSSES)
def test_a_logit_is_two_classes(name):
    x = torch.randn(4, 1, generator=GENERATOR)
    config = LOSSES[name]
    targets = binary([1, 0, None, 1], score=[None, None, 0.7, None])
    losses = BinaryLoss(config, torch.tensor(3.0)).losses(x, targets)
    # |2 * 0.7 - 1| = 0.4 is the weight of the score; a yes has the weight 3.
    wanted = [
        factor * reference(name, [0.0, logit], target, [1.0, 3.0])
        for logit, target, factor in zip(
            x[:, 0].tolist(), [[0, 1], [1, 0], [0.3, 0.7], [0, 1]], [1, 1, 0.4, 1], strict=True
        )
    ]
    torch.testing.assert_close(losses, torch.tensor(wanted, dtype=torch.float32))


@pytest.mark.parametrize("name", LOSSES)
def test_a_coarse_label_is_one_of_two_classes(name):
    # Softmax of these logits is (1, 2, 5) / 8; possible are 6 of 8, or all.
    x = torch.tensor([[1.0, 2.0, 5.0]]).log().expand(2, -1)
    losses = ClassLoss(LOSSES[name], 3).losses(x, classes([{0, 2}, {0, 1, 2}], 3))
    possible = reference(name, [math.log(2), math.log(6)], [0, 1])
    torch.testing.assert_close(losses, torch.tensor([possible, 0.0], dtype=torch.float32), atol=1e-6, rtol=1e-5)


def test_label_smoothing_comes_first():
    config = LossConfig(robust="symmetric", symmetric_weights=(0.3, 0.8), label_smoothing=0.3)
    x = torch.randn(1, 3, generator=GENERATOR)
    losses = ClassLoss(config, 3).losses(x, classes([1], 3))
    torch.testing.assert_close(
        losses, torch.tensor([reference("symmetric", x[0].tolist(), [0.1, 0.8, 0.1])], dtype=torch.float32)
    )


def test_limits_of_the_generalised_cross_entropy():
    x, y = torch.randn(5, 3, generator=GENERATOR), [0, 2, 1, 1, 0]
    near_zero = ClassLoss(LossConfig(robust="generalised", robust_q=1e-3), 3).losses(x, classes(y, 3))
    torch.testing.assert_close(
        near_zero, functional.cross_entropy(x, torch.tensor(y), reduction="none"), rtol=5e-3, atol=5e-3
    )
    one = ClassLoss(LossConfig(robust="generalised", robust_q=1.0), 3).losses(x, classes(y, 3))
    torch.testing.assert_close(one, 1 - x.softmax(1)[torch.arange(5), torch.tensor(y)])


def test_only_cross_entropies_of_one_kind_at_a_time_are_replaced():
    with pytest.raises(ConfigError, match=r"--loss.robust: expected off with --loss.binary focal"):
        LossConfig(robust="symmetric", binary="focal")
    with pytest.raises(ConfigError, match=r"--loss.robust-q"):
        LossConfig(robust="generalised", robust_q=0.0)
    with pytest.raises(ConfigError, match=r"--loss.symmetric-weights"):
        LossConfig(robust="symmetric", symmetric_weights=(0.0, 0.0))
