"""ArcFace against angles by hand, and a training that learns persons with it."""

import math

import pytest
import torch
from torch.nn import functional

from faceattr.attributes import AttributeSet
from faceattr.config.fit import FitConfig, LossConfig, OptimConfig
from faceattr.config.overrides import override
from faceattr.config.train import TrainConfig
from faceattr.errors import ConfigError
from faceattr.models.heads import CosineLinear, HeadConfig, build_head
from faceattr.models.multitask import MultiAttributeModel
from faceattr.training.assembly import build_model
from faceattr.training.features.stacked import StackedHeads
from faceattr.training.loop.fit import EpochBatches, fit
from faceattr.training.loop.ranks import Ranks
from faceattr.training.losses.multi_loss import build_objective
from tests.training.toy import ATTRIBUTES, HAT, PERSON, ToyBackbone, binary, classes, count, make_batch

COUNTS = {"hat": torch.ones(2).double(), "person": torch.ones(4).double()}
BOTH = AttributeSet(attributes=(HAT, PERSON))
TINY = {"model.backbone": "test_vit", "model.pretrained": False, "model.image_size": 32, "model.args.depth": "1"}


def heads(scale=8.0):
    return {"hat": HeadConfig(), "person": HeadConfig(cosine_scale=scale)}


def objective(**values):
    return build_objective(BOTH, heads(), LossConfig(arcface_scale=8.0, **values), COUNTS)


def test_the_head_gives_cosines():
    torch.manual_seed(0)
    head = build_head(PERSON, HeadConfig(cosine_scale=8.0), 5)
    assert isinstance(head, CosineLinear)
    assert [name for name, _ in head.named_parameters()] == ["weight"]
    features = torch.randn(3, 5)
    wanted = functional.cosine_similarity(features[:, None], head.weight[None], dim=2)
    torch.testing.assert_close(head(features), 8 * wanted)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert head(features.bfloat16()).dtype == torch.float32
    deep = build_head(PERSON, HeadConfig(hidden=(7,), cosine_scale=8.0), 5)
    assert isinstance(deep[-1], CosineLinear)


def test_the_loss_is_the_cross_entropy_with_a_wider_own_angle():
    """Angles 0.4, 1.0, 1.5, 2.0 to four persons; the own one counts as 0.5 more."""
    angles = torch.tensor([[0.4, 1.0, 1.5, 2.0]])
    loss = objective(arcface_margin=0.5).loss_of("person")
    for own in range(4):
        wide = angles.clone()
        wide[0, own] += 0.5
        wanted = functional.cross_entropy(8 * wide.cos(), torch.tensor([own]), reduction="none")
        torch.testing.assert_close(loss.losses(8 * angles.cos(), classes([own], 4)), wanted)
    missing = loss.losses(8 * angles.cos(), classes([None], 4))
    assert (missing.tolist(), loss.weights(classes([None], 4)).tolist()) == ([0.0], [0.0])


def test_beyond_the_turn_the_loss_goes_on_rising():
    """cos(t + m) rises from t = pi - m on; the loss must not fall there."""
    loss = objective(arcface_margin=0.5).loss_of("person")
    angles = torch.linspace(0.1, math.pi - 0.01, 60)
    outputs = torch.stack([angles.cos(), *[torch.zeros(60)] * 3], 1) * 8
    losses = loss.losses(outputs, classes([0] * 60, 4))
    assert (losses.diff() > 0).all()


def test_gradients_are_finite_at_the_ends():
    outputs = torch.tensor([[8.0, -8.0, 0.0, 8.0]], requires_grad=True)
    objective(arcface_margin=0.5).loss_of("person").losses(outputs, classes([0], 4)).sum().backward()
    assert outputs.grad.isfinite().all()


def test_other_attributes_keep_their_loss():
    outputs, targets = torch.tensor([[0.3], [-1.0]]), binary([1, 0])
    found = objective(arcface_margin=0.5).loss_of("hat").losses(outputs, targets)
    torch.testing.assert_close(found, objective().loss_of("hat").losses(outputs, targets))


def test_a_training_learns_persons():
    torch.manual_seed(0)
    shapes = {name: HeadConfig(cosine_scale=8.0) if name == "person" else HeadConfig() for name in ATTRIBUTES.names}
    model = MultiAttributeModel(ToyBackbone(), ATTRIBUTES, heads=shapes)
    train = [make_batch(64, seed) for seed in range(4)]
    result = fit(
        model,
        EpochBatches(train=lambda epoch: train, val=lambda: iter([make_batch(64, 9)]), num_train=4),
        FitConfig(loss=LossConfig(arcface_margin=0.3, arcface_scale=8.0), optim=OptimConfig(lr=0.02, epochs=12)),
        counts=count(train),
        ranks=Ranks(device=torch.device("cpu")),
    )
    assert result.history[-1]["val/person/top1"] > 0.6


def test_the_config_chooses_the_head_and_files_keep_it(tmp_path):
    settings = {**TINY, "model.crop_fraction": 1.0, "loss.arcface_margin": 0.5, "loss.arcface_scale": 16.0}
    given = override(TrainConfig(data=("d",), output="o"), settings)
    model = build_model(given, BOTH, counts=COUNTS)
    assert model.head_configs == {"hat": HeadConfig(), "person": HeadConfig(cosine_scale=16.0)}
    model.save_pretrained(tmp_path / "model")
    loaded = MultiAttributeModel.from_pretrained(tmp_path / "model")
    assert loaded.head_configs == model.head_configs
    assert '"cosine_scale": 16.0' in (tmp_path / "model" / "config.json").read_text()
    assert "cosine_scale" not in HeadConfig().to_dict()
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(loaded(images)["person"], model.eval()(images)["person"])


def test_stacked_heads_are_the_heads():
    torch.manual_seed(0)
    trials = [
        torch.nn.ModuleDict({"person_head": build_head(PERSON, HeadConfig(hidden=(7,), cosine_scale=8.0), 5)})
        for _ in range(3)
    ]
    features = torch.randn(4, 5)
    found = StackedHeads(trials, ["person"])(features)["person"]
    for output, trial in zip(found, trials, strict=True):
        torch.testing.assert_close(output, trial["person_head"](features))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LossConfig(arcface_margin=1.6), "--loss.arcface-margin: expected at least 0 and below half of pi"),
        (lambda: LossConfig(arcface_scale=0.0), "--loss.arcface-scale: expected more than 0"),
        (lambda: HeadConfig(cosine_scale=0.0), "head: cosine_scale is 0.0"),
        (
            lambda: build_objective(BOTH, heads(4.0), LossConfig(arcface_margin=0.5, arcface_scale=8.0), COUNTS),
            "--loss.arcface-scale 8: the head of 'person' has the scale 4.0; a --model.checkpoint keeps",
        ),
        (
            lambda: objective(arcface_margin=0.5, logit_adjustment=1.0),
            "--loss.logit-adjustment: 'person' has --loss.arcface-margin",
        ),
        (
            lambda: build_objective(
                AttributeSet(attributes=(HAT,)), {"hat": HeadConfig()}, LossConfig(arcface_margin=0.5), COUNTS
            ),
            "--loss.arcface-margin 0.5: expected an identity among the attributes, found hat",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(build, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        build()
