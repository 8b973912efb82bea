import copy
import math

import pytest
import torch

from faceattr.config.fit import FitConfig, LossConfig, OptimConfig
from faceattr.config.train import TrainConfig
from faceattr.errors import ConfigError
from faceattr.models.heads import HeadConfig
from faceattr.training.features.stacked_fit import why_not_stacked
from faceattr.training.loop.fit import EpochBatches, fit
from faceattr.training.loop.forward import Forward
from faceattr.training.loop.ranks import Ranks
from faceattr.training.losses.consistency import Consistency
from tests.training.toy import ATTRIBUTES, SIZE, build_toy, count, make_batch

CPU = torch.device("cpu")
TRAIN, VAL = [make_batch(16, seed) for seed in range(4)], [make_batch(64, 100)]
ONE = dict.fromkeys(ATTRIBUTES.names, torch.tensor(1.0))


def build(age_output="distribution", size_px=8):
    heads = {name: HeadConfig(age_output=age_output) for name in ATTRIBUTES.names}
    return Consistency(ATTRIBUTES, heads, weight=1.0, size_px=size_px)


def outputs(hat, tone, *, num_years=117):
    """Two images with the same outputs; years and persons are uniform."""
    return {
        "hat": torch.tensor([[hat]] * 2),
        "tone": torch.tensor([tone] * 2).log(),
        "age": torch.zeros(2, num_years),
        "person": torch.zeros(2, 4),
    }


def test_squared_distances_by_hand():
    images, views = outputs(math.log(3), [1.0, 2.0, 5.0]), outputs(0.0, [2.0, 2.0, 4.0])
    # Hat: P(yes) 3/4 and 1/2, the same for no. Tone: (1, 2, 5) / 8 and (2, 2, 4) / 8.
    hat, tone = 2 * 0.25**2, 2 / 64
    loss_weights = ONE | {"tone": torch.tensor(0.5)}
    found = build()(images, views, loss_weights)
    torch.testing.assert_close(found, torch.tensor(2 * (hat + 0.5 * tone)))
    # A year ahead is no probability.
    years = {**views, "age": torch.full((2, 1), 30.0)}
    torch.testing.assert_close(build("regression")({**images, "age": torch.zeros(2, 1)}, years, loss_weights), found)


def test_images_are_the_target():
    images, views = outputs(0.3, [1.0, 2.0, 5.0]), outputs(0.1, [1.0, 1.0, 1.0])
    for each in (*images.values(), *views.values()):
        each.requires_grad_()
    build()(images, views, ONE).backward()
    assert [each.grad for each in images.values()] == [None] * 4
    assert views["hat"].grad.abs().min() > 0


def test_views_are_images_drawn_from_the_global_generator():
    images = torch.randint(0, 256, (3, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(build(size_px=12).draw_views(images))
    assert (drawn[0].shape, drawn[0].dtype) == (images.shape, torch.uint8)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], images)


def train(weight, *, epochs=6, state=None, report=None):
    torch.manual_seed(0)
    model = build_toy()
    config = FitConfig(loss=LossConfig(consistency=weight), optim=OptimConfig(lr=1e-2, epochs=epochs))
    batches = EpochBatches(train=lambda epoch: iter(TRAIN), val=lambda: iter(VAL), num_train=len(TRAIN))
    result = fit(model, batches, config, counts=count(TRAIN), ranks=Ranks(device=CPU), state=state, report=report)
    return model, result


@torch.no_grad()
def measure_distance(model):
    """Mean consistency loss of ten views of the validation images."""
    torch.manual_seed(5)
    forward, images = Forward(model.backbone.preprocessing, precision="float32", device=CPU), VAL[0].inputs
    consistency = build(size_px=SIZE)
    views = [consistency.draw_views(images) for _ in range(10)]
    distances = [consistency(forward(model, images), forward(model, each), ONE) for each in views]
    return float(torch.stack(distances).mean() / len(images))


def test_a_model_that_is_asked_for_consistency_is_more_consistent():
    (loose, _), (consistent, result) = train(0.0), train(20.0)
    assert measure_distance(consistent) < 0.5 * measure_distance(loose)
    # The losses that are reported are those of the labels alone.
    assert all(record["train/loss"] < 20 for record in result.history)


def test_a_resumed_training_draws_the_same_views():
    states = []
    whole, _ = train(2.0, epochs=3, report=lambda record, state: states.append(copy.deepcopy(state)))
    resumed, _ = train(2.0, epochs=3, state=states[0])
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_what_consistency_excludes():
    with pytest.raises(ConfigError, match=r"--loss.consistency: expected 0 with --optim.mixup-alpha"):
        FitConfig(loss=LossConfig(consistency=1.0), optim=OptimConfig(mixup_alpha=0.2))
    with pytest.raises(ConfigError, match=r"--loss.consistency"):
        TrainConfig(data=("d",), output="o", loss=LossConfig(consistency=1.0), optim=OptimConfig(mixup_alpha=0.2))
    with pytest.raises(ConfigError, match=r"--loss.consistency: expected 0 or more"):
        LossConfig(consistency=-1.0)
    assert why_not_stacked(FitConfig(loss=LossConfig(consistency=1.0))) == "--loss.consistency"
