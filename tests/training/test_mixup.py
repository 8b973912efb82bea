import pytest
import torch
from torch.nn import functional
from torchvision.transforms import v2

from faceattr.attributes import AttributeSet
from faceattr.config.fit import LossConfig, OptimConfig
from faceattr.errors import ConfigError
from faceattr.training.loop.mixup import Blend, draw_blend
from faceattr.training.losses.multi_loss import build_objective
from tests.training.toy import HAT, TONE, binary, build_toy, classes

BLEND = Blend(0.75, torch.tensor([2, 0, 1]))


def test_inputs_are_blended():
    inputs = torch.tensor([[0.0], [4.0], [8.0]])
    assert BLEND.inputs(inputs).tolist() == [[2.0], [3.0], [7.0]]


def draw(num=8, **settings):
    return draw_blend(torch.zeros(num, 3, 12, 16), OptimConfig(**settings), torch.device("cpu"))


def test_partners_are_a_permutation():
    torch.manual_seed(0)
    for settings in ({"mixup_alpha": 0.4}, {"cutmix_alpha": 1.0}):
        blend = draw(**settings)
        assert sorted(blend.partner.tolist()) == list(range(8))
        assert 0 <= blend.share <= 1


def test_nothing_is_drawn_without_mixing():
    state = torch.random.get_rng_state()
    assert draw() is None
    assert torch.equal(torch.random.get_rng_state(), state)


def test_mixup_draws_what_it_drew_before_there_was_cutmix():
    torch.manual_seed(3)
    share = float(torch.distributions.Beta(0.4, 0.4).sample())
    partner = torch.randperm(8)
    torch.manual_seed(3)
    blend = draw(mixup_alpha=0.4)
    assert (blend.share, blend.partner.tolist(), blend.box) == (share, partner.tolist(), None)


@pytest.mark.parametrize("seed", range(5))
def test_cutmix_is_torchvisions(seed):
    """Inputs, and the loss of one attribute as the cross entropy of torchvision's mixed labels."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(6, 3, 12, 16, generator=generator)
    labels = torch.randint(3, (6,), generator=generator)
    torch.manual_seed(seed)
    wanted, mixed = v2.CutMix(alpha=1.0, num_classes=3)(images, labels)
    torch.manual_seed(seed)
    drawn = draw(6, cutmix_alpha=1.0)
    # torchvision pairs each row with the one before it.
    blend = Blend(drawn.share, torch.arange(6).roll(1), drawn.box)
    assert torch.equal(blend.inputs(images), wanted)
    assert torch.equal(images, torch.randn(6, 3, 12, 16, generator=torch.Generator().manual_seed(seed)))
    model = build_toy(AttributeSet(attributes=(TONE,)))
    objective = build_objective(model.attributes, model.head_configs, LossConfig(), {"tone": torch.ones(3).double()})
    outputs = {"tone": torch.randn(6, 3, generator=generator)}
    targets = {"tone": classes(labels.tolist(), 3)}
    found = blend.losses(objective, outputs, targets, objective.sum_weights(targets))
    torch.testing.assert_close(found[0], functional.cross_entropy(outputs["tone"], mixed))


def test_a_coin_decides_between_the_two():
    torch.manual_seed(0)
    cuts = sum(draw(mixup_alpha=0.2, cutmix_alpha=1.0).box is not None for _ in range(200))
    assert 72 < cuts < 128  # 4 standard deviations of 100


def test_alphas_are_not_negative():
    with pytest.raises(ConfigError, match=r"^--optim\.cutmix-alpha: expected 0 or more"):
        OptimConfig(cutmix_alpha=-1.0)


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
