import math

import pytest
import torch

from faceattr.config.fit import LossConfig
from faceattr.errors import ConfigError
from faceattr.training.losses.attribute_loss import BinaryLoss, ClassLoss
from tests.training.toy import binary, classes

UNLABELLED = LossConfig(abstained="unlabelled", confidence_gamma=0.0)


def test_where_the_teacher_abstained_nothing_is_learnt():
    # Labelled with a score, abstained, labelled without a score, neither.
    targets = binary([1, None, 0, None], score=[0.9, 0.6, None, None], weight=[0.5, 0.25, 1.0, 1.0])
    assert BinaryLoss(UNLABELLED).weights(targets).tolist() == [0.5, 0.0, 1.0, 0.0]
    assert BinaryLoss(LossConfig(confidence_gamma=0.0)).weights(targets).tolist() == [0.5, 0.25, 1.0, 0.0]
    outputs = torch.zeros(4, 1, requires_grad=True)
    BinaryLoss(UNLABELLED).losses(outputs, targets).sum().backward()
    # sigmoid(0) - target, times the weight.
    torch.testing.assert_close(outputs.grad[:, 0], torch.tensor([0.5 * (0.5 - 0.9), 0.0, 0.5, 0.0]))


def test_a_coarse_label_is_a_label():
    score = torch.tensor([[0.2, 0.3, 0.5], [0.2, 0.3, 0.5], [0.4, 0.4, 0.2], [math.nan] * 3])
    targets = classes([2, {1, 2}, None, 1], 3, score=score)
    assert ClassLoss(UNLABELLED, 3).weights(targets).tolist() == [1.0, 1.0, 0.0, 1.0]
    assert ClassLoss(LossConfig(), 3).weights(targets).tolist() == [1.0, 1.0, 1.0, 1.0]
    losses = ClassLoss(UNLABELLED, 3).losses(torch.zeros(4, 3), targets)
    torch.testing.assert_close(losses, torch.tensor([math.log(3), math.log(3), 0.0, math.log(3)]))


def test_a_choice_that_does_not_exist():
    with pytest.raises(ConfigError, match=r"--loss.abstained: expected score or unlabelled, found 'drop'"):
        LossConfig(abstained="drop")
