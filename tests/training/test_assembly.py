"""What a TrainConfig makes of the attributes of the data: attributes, stages, heads."""

import pytest
import torch

from faceattr.attributes import Attribute, AttributeSet, DerivedAttribute
from faceattr.config.overrides import override
from faceattr.config.train import TrainConfig
from faceattr.errors import ConfigError
from faceattr.training.assembly import build_model, build_stages, build_untrained, check_selection, choose_attributes
from faceattr.training.losses.class_weights import LabelTotals
from faceattr.training.recipe import resolve_recipe

AVAILABLE = AttributeSet(
    attributes=(
        Attribute(name="hat"),
        Attribute(name="glasses"),
        Attribute(name="tone", kind="multiclass", classes=("dark", "light")),
        Attribute(name="age", kind="age", classes=()),
    ),
    derived=(
        DerivedAttribute(name="clear", rule="not (hat or glasses)"),
        DerivedAttribute(name="bare", rule="not hat"),
    ),
)
TINY = override(
    TrainConfig(data=("d",), output="o"),
    {
        "model.backbone": "test_vit",
        "model.pretrained": False,
        "model.image_size": 32,
        "model.crop_fraction": 1.0,
        "model.args.depth": "3",
        "optim.epochs": 10,
    },
)


def config(**changes):
    return override(TINY, {name.replace("__", "."): value for name, value in changes.items()})


def counts(attributes=AVAILABLE):
    totals = LabelTotals(attributes)
    return {name: count + 2 for name, count in totals.counts.items()}


def model_of(given):
    return build_model(given, AVAILABLE, counts=counts())


def test_attributes_are_chosen_in_the_datas_order_with_the_rules_over_them():
    chosen = choose_attributes(AVAILABLE, ("tone", "hat"))
    assert chosen.names == ("hat", "tone")
    assert [rule.name for rule in chosen.derived] == ["bare"]
    assert choose_attributes(AVAILABLE, ()) == AVAILABLE
    with pytest.raises(ConfigError, match="no attribute 'glases'; did you mean glasses"):
        choose_attributes(AVAILABLE, ("glases",))
    with pytest.raises(ConfigError, match="the data have hat, glasses, tone, age"):
        choose_attributes(AVAILABLE, ("zzz",))


def stages_of(**changes):
    given = resolve_recipe(config(**changes), num_images=1_000).config
    return [(each.num_epochs, each.freeze_depth, each.lr) for each in build_stages(given, model_of(given))]


def test_stages():
    assert stages_of(optim__lr=0.5) == [(10, 0, 0.5)]
    assert stages_of(freeze__depth="all", optim__lr=0.5) == [(10, 4, 0.5)]
    two = {"freeze__schedule": "two-stage", "freeze__head_epochs": 3, "freeze__head_lr": 0.25, "optim__lr": 0.5}
    assert stages_of(**two, freeze__depth=1) == [(3, "all", 0.25), (7, 1, 0.5)]
    gradual = {"freeze__schedule": "gradual", "freeze__num_steps": 2, "freeze__lr_factor": 0.5, "optim__lr": 0.5}
    assert stages_of(**gradual) == [(4, 4, 0.5), (3, 2, 0.25), (3, 0, 0.125)]


def test_modes_of_the_backbone_are_set():
    given = config(model__backbone="test_resnet", model__args={}, model__image_size=64, workers__recompute=True)
    assert model_of(given).backbone.recomputes
    assert not model_of(config()).backbone.recomputes
    with pytest.raises(ConfigError, match=r"--model\.batch-norm frozen: test_vit has no batch norm"):
        build_untrained(override(TINY, {"model.pretrained": True, "model.batch_norm": "frozen"}), AVAILABLE)


def test_a_model_starts_from_its_seed_with_heads_that_know_the_frequencies():
    first, again, other = (model_of(config(seed=seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert not torch.equal(first.head("hat").weight, other.head("hat").weight)
    totals = counts()
    totals["hat"] = torch.tensor([30.0, 10.0], dtype=torch.float64)
    model = build_model(TINY, AVAILABLE, counts=totals)
    assert model.head("hat").bias.sigmoid().item() == pytest.approx(0.25, abs=1e-5)
    assert model.training


def test_a_model_looks_at_as_much_of_an_image_as_it_is_told_to(tmp_path):
    def crop_of(**changes):
        return model_of(config(**changes)).backbone.preprocessing.crop_fraction

    # timm's own is 0.95.
    assert [crop_of(model__crop_fraction=each) for each in (1.0, 0.5, "backbone")] == [1.0, 0.5, 0.95]
    model_of(config(model__crop_fraction=0.5)).save_pretrained(tmp_path)
    old = {"model__checkpoint": str(tmp_path)}
    assert [crop_of(model__crop_fraction=each, **old) for each in ("backbone", 1.0)] == [0.5, 1.0]
    with pytest.raises(ConfigError, match="crop-fraction: expected a number or backbone, once a recipe is resolved"):
        crop_of(model__crop_fraction="auto")


def test_lora_trains_little():
    model = model_of(config(lora__rank=2, freeze__depth=1))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.partition(".")[0] for name in trained} == {"backbone", "heads"}
    assert all("lora_" in name for name in trained if name.startswith("backbone"))


@pytest.mark.parametrize(
    ("changes", "labelled", "problem"),
    [
        ({"select.metric": "hat/f2"}, {"hat"}, "'hat/f2' is no figure of validation"),
        ({"select.metric": "hat/f1"}, {"tone"}, "no validation image has a label of 'hat'"),
        ({"select.combine": {"hat/f1": 0.5, "age/mae": 0.5}}, {"hat"}, "no validation image has a label of 'age'"),
        ({}, set(), "no validation image has a label of any attribute"),
    ],
)
def test_metrics_that_validation_cannot_give(changes, labelled, problem):
    with pytest.raises(ConfigError, match=problem):
        check_selection(override(TINY, changes), AVAILABLE, labelled)
    check_selection(TINY, AVAILABLE, {"hat"})
