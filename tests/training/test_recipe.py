"""What settings that are `auto` become, by what a training starts from."""

import itertools
from dataclasses import asdict, replace
from typing import Any

import pytest

from faceattr.config.augmentation import Augmentation
from faceattr.config.fit import OptimConfig, compute_fingerprint, list_deciding
from faceattr.config.overrides import override
from faceattr.config.train import TrainConfig
from faceattr.errors import ConfigError
from faceattr.training.recipe import find_family, resolve_recipe

BASE = TrainConfig(data=("packed",), output="out")
RANDOM = override(BASE, {"model.backbone": "resnet18", "model.pretrained": False})
# What runs stood for before settings could be `auto`.
BEFORE: dict[str, dict[str, Any]] = {
    "optim": {"lr": 1e-4, "weight_decay": 1e-4, "layer_decay": 1.0, "warmup_epochs": 0.0, "ema_decay": None},
    "augment": {"strength": 1.0},
    "loss": {"class_weights": "none"},
}


def resolve(changes=(), *, base=RANDOM, num_images=8_000, begun=None):
    return resolve_recipe(override(base, dict(changes)), num_images=num_images, begun=begun)


@pytest.mark.parametrize(
    ("pretrained", "backbone", "optimizer", "epochs", "num_images"),
    list(
        itertools.product(
            (True, False), ("resnet18", "vit_tiny_patch16_224"), ("adam", "adamw", "sgd"), (1, 30), (64, 10**7)
        )
    ),
)
def test_nothing_is_left_to_choose(pretrained, backbone, optimizer, epochs, num_images):
    changes = {"model.pretrained": pretrained, "model.backbone": backbone, "optim.name": optimizer}
    recipe = resolve({**changes, "optim.epochs": epochs}, num_images=num_images)
    fit, strength = recipe.config.fit, recipe.config.augmentation.strength
    assert 0 < fit.optim.lr < 1
    assert 0 <= strength <= 1
    assert fit.optim.warmup_epochs < epochs
    assert "auto" not in str(asdict(recipe.config.loss)["class_weights"])
    assert resolve_recipe(recipe.config, num_images=1).config == recipe.config


def test_random_weights_learn_at_higher_rates_than_trained_ones():
    for backbone in ("resnet18", "vit_tiny_patch16_224"):
        random, trained = (
            resolve({"model.pretrained": pretrained, "model.backbone": backbone}).config.fit.optim
            for pretrained in (False, True)
        )
        assert random.lr > trained.lr
        assert random.layer_decay == 1
        assert trained.layer_decay < 1
        assert random.warmup_epochs > 0


def test_a_checkpoint_of_an_earlier_training_is_a_trained_start():
    changes = {"model.checkpoint": "s3://models/mine"}
    keeps = {"model.pretrained": False, "model.crop_fraction": "backbone"}
    assert resolve(changes).config == override(resolve({"model.pretrained": True}).config, {**keeps, **changes})


@pytest.mark.parametrize(
    ("changes", "num_images", "size"),
    [
        ({"optim.epochs": 6}, 8_000, 32),  # 750 steps of 64
        ({"optim.epochs": 20}, 8_000, 64),  # 2,500
        ({"optim.epochs": 6}, 1_000_000, 64),
        ({"optim.epochs": 20, "optim.accumulation": 4}, 8_000, 32),
        ({"optim.epochs": 6, "model.pretrained": True}, 8_000, 64),
        ({"optim.epochs": 6, "freeze.depth": "all"}, 8_000, 64),
        ({"optim.epochs": 6, "workers.num_workers": 3}, 8_000, 33),
        ({"optim.epochs": 6, "feed.batch_size": 48}, 8_000, 48),
    ],
)
def test_few_steps_from_random_weights_have_small_batches(changes, num_images, size):
    assert resolve(changes, num_images=num_images).config.feed.batch_size == size


def test_a_resumed_run_keeps_its_batch_size():
    short = {"optim.epochs": 6}
    assert resolve(short, begun=BEFORE | {"feed": {"batch_size": 64}}).config.feed.batch_size == 64
    assert resolve(short, begun=BEFORE | {"feed": {"batch_size": 32}}).config.feed.batch_size == 32
    with pytest.raises(ConfigError, match=r"feed\.batch-size: expected 1 or more, or auto, found 0"):
        resolve({"feed.batch_size": 0})


def test_evaluation_sees_the_whole_image_unless_it_is_told_otherwise_or_began_so():
    assert resolve().config.model.crop_fraction == 1
    assert resolve({"model.pretrained": True}).config.model.crop_fraction == 1
    assert "evaluation sees 1 of the image's side" in resolve().lines[2]
    for given in (0.5, "backbone"):
        assert resolve({"model.crop_fraction": given}, begun=BEFORE).config.model.crop_fraction == given
    assert resolve(begun=BEFORE).config.model.crop_fraction == "backbone"
    begun = BEFORE | {"model": {"crop_fraction": 0.75}}
    assert resolve(begun=begun).config.model.crop_fraction == 0.75
    assert "the backbone's own crop" in resolve(begun=BEFORE).lines[2]
    for wrong in (0, 1.5):
        with pytest.raises(ConfigError, match=r"--model\.crop-fraction: expected more than 0, at most 1, or auto"):
            resolve({"model.crop_fraction": wrong})


def test_the_rate_follows_the_batch():
    rates = {batch: resolve({"feed.batch_size": batch}).config.fit.optim.lr for batch in (64, 256)}
    assert rates[256] == pytest.approx(2 * rates[64], rel=0.02)
    parts = resolve({"feed.batch_size": 64, "optim.accumulation": 4}).config.fit.optim.lr
    assert parts == rates[256]
    sgd = [resolve({"feed.batch_size": batch, "optim.name": "sgd"}).config.fit.optim.lr for batch in (64, 256)]
    assert sgd[1] == pytest.approx(4 * sgd[0], rel=0.02)


def test_short_trainings_from_random_weights_see_their_images_nearly_plain():
    short, long = (resolve({"optim.epochs": epochs}).config.augmentation.strength for epochs in (6, 200))
    assert short < long
    few, many = (resolve(num_images=count).config.augmentation.strength for count in (1_000, 10**6))
    assert many < few


@pytest.mark.parametrize(
    ("backbone", "family"),
    [
        ("resnet18", "convolutions"),
        ("convnext_tiny", "convolutions"),
        ("test_resnet", "convolutions"),
        ("efficientnet_b0", "convolutions"),
        ("test_vit", "transformer"),
        ("vit_base_patch16_clip_224.openai", "transformer"),
        ("swin_tiny_patch4_window7_224", "transformer"),
        ("hf:openai/clip-vit-base-patch32", "transformer"),
        ("/models/clip", "transformer"),
    ],
)
def test_families_by_name(backbone, family):
    assert find_family(backbone) == family


def test_what_is_given_stays():
    given = {
        "optim.lr": 0.5,
        "optim.ema_decay": None,
        "optim.warmup_epochs": 0,
        "augment.strength": 2,
        "loss.normalised": "all",
    }
    config = resolve(given).config
    assert (config.fit.optim.lr, config.fit.optim.ema_decay, config.fit.optim.warmup_epochs) == (0.5, None, 0)
    assert (config.augmentation.strength, config.loss.normalised) == (2, "all")


def test_a_run_goes_on_with_what_it_began_with():
    old = {name: {**list_deciding(RANDOM)[name], **values} for name, values in BEFORE.items()}
    del old["loss"]["normalised"], old["augment"]["aspect"]  # fields that did not exist then
    config = resolve(begun=old).config
    assert {name: getattr(config.optim, name) for name in BEFORE["optim"]} == BEFORE["optim"]
    assert config.augmentation == Augmentation()
    assert (config.loss.normalised, config.loss.class_weights) == ("all", "none")
    # What is decided is what the old run's fingerprint holds, without fields that came later.
    assert {name: list_deciding(config)[name] for name in old} == old

    new = resolve().config
    deciding = list_deciding(new)
    assert resolve(begun=deciding, num_images=99).config == new


def test_views_change_shape_with_the_strength_unless_a_run_began_otherwise():
    assert resolve({"augment.strength": 0.2}).config.augmentation.aspect == 0.03
    assert resolve({"augment.strength": 0.2, "augment.aspect": 0.1}).config.augmentation.aspect == 0.1
    assert resolve({"augment.strength": 0.2}, begun=BEFORE).config.augmentation.aspect == 0.15


def test_the_recipe_is_three_lines_that_say_why():
    rate, schedule, augmentation = resolve({"optim.epochs": 6}).lines
    assert rate.startswith("rate ")
    assert "random weights" in rate
    assert "6 epochs" in schedule
    assert "more epochs learn more" in schedule
    assert "8,000 images" in augmentation
    given = resolve({"optim.lr": 0.5, "augment.strength": 0.25}).lines
    assert "0.5 (as given)" in given[0]
    assert "0.25 (as given)" in given[2]


def test_nothing_trains_on_what_is_not_chosen_yet():
    with pytest.raises(ConfigError, match=r"--optim\.lr: .*'auto'"):
        _ = RANDOM.fit
    with pytest.raises(ConfigError, match=r"--augment\.strength: .*auto"):
        _ = RANDOM.augmentation


def test_fingerprints_of_trainings_from_before_hold():
    old = replace(resolve().config.loss, normalised="all")
    assert "normalised" not in list_deciding(old)
    assert compute_fingerprint(old) != compute_fingerprint(replace(old, normalised="units"))
    later = {"swa_epochs", "cutmix_alpha"}
    assert list_deciding(OptimConfig()) == {
        name: value for name, value in asdict(OptimConfig()).items() if name not in later
    }


def test_the_devices_decide_the_precision_unless_a_run_began_with_one():
    assert resolve().config.optim.precision == "auto"
    assert resolve({"optim.precision": "float16"}).config.optim.precision == "float16"
    # Runs of earlier versions: their fingerprint says float32, or nothing.
    assert resolve(begun=BEFORE).config.optim.precision == "float32"
    for began in ("float32", "bfloat16"):
        begun = BEFORE | {"optim": {**BEFORE["optim"], "precision": began}}
        assert resolve(begun=begun).config.optim.precision == began
        assert resolve({"optim.precision": "float16"}, begun=begun).config.optim.precision == "float16"
