import torch

from faceattr.attributes import AttributeSet
from faceattr.config.fit import LossConfig
from faceattr.training.loop.mixup import Blend, draw_blend
from faceattr.training.losses.multi_loss import build_objective
from tests.training.toy import HAT, TONE, binary, build_toy, classes

BLEND = Blend(0.75, torch.tensor([2, 0, 1]))


def test_inputs_are_blended():
    inputs = torch.tensor([[0.0], [4.0], [8.0]])
    assert BLEND.inputs(inputs).tolist() == [[2.0], [3.0], [7.0]]


def test_partners_are_a_permutation():
    torch.manual_seed(0)
    blend = draw_blend(8, 0.4, torch.device("cpu"))
    assert sorted(blend.partner.tolist()) == list(range(8))
    assert 0 <= blend.share <= 1


def test_the_loss_is_that_of_blended_labels():
    model = build_toy(AttributeSet(attributes=(HAT, TONE)))
    counts = {"hat": torch.tensor([1.0, 2.0]).double(), "tone": torch.tensor([1.0, 1.0, 1.0]).double()}
    config = LossConfig(confidence_gamma=0.0)
    objective = build_objective(model.attributes, model.head_configs, config, counts)
    outputs = {"hat": torch.randn(3, 1), "tone": torch.randn(3, 3)}
    hard = {"hat": binary([1, 0, 0]), "tone": classes([0, 1, 2], 3)}
    soft = {
        "hat": binary([None] * 3, score=[0.75, 0.25, 0.0]),
        "tone": classes([None] * 3, 3, score=torch.tensor([[0.75, 0, 0.25], [0.25, 0.75, 0], [0, 0.25, 0.75]])),
    }
    denominators = objective.sum_weights(hard)
    torch.testing.assert_close(objective.sum_weights(soft), denominators)
    found = BLEND.losses(objective, outputs, hard, denominators)
    torch.testing.assert_close(found, objective(outputs, soft, denominators))


def test_missing_labels_of_either_part_are_left_out():
    model = build_toy(AttributeSet(attributes=(HAT,)))
    objective = build_objective(
        model.attributes, model.head_configs, LossConfig(normalise=False), {"hat": torch.ones(2).double()}
    )
    targets = {"hat": binary([1, None, None])}
    outputs = {"hat": torch.tensor([[0.5], [1.5], [-2.0]])}
    wanted = 0.75 * -torch.tensor(0.5).sigmoid().log() + 0.25 * -torch.tensor(1.5).sigmoid().log()
    torch.testing.assert_close(BLEND.losses(objective, outputs, targets, objective.sum_weights(targets))[0], wanted)
