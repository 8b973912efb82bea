"""Changed copies of a config, and configs that survive a YAML file."""

import dataclasses

import numpy as np
import pytest

from faceattr.cli import parse_config
from faceattr.config.overrides import dump_config, override
from faceattr.config.train import TrainConfig
from faceattr.errors import ConfigError
from faceattr.training.presets import PRESETS_FOLDER

BASE = TrainConfig(data=("a", "s3://b/c"), output="out")
CHANGES = {
    "loss.aux_weight": 1,
    "loss.weights.hat": np.float64(3.0),
    "loss.weights.glasses": 0.5,
    "loss.main": "hat",
    "loss.asymmetric-gammas": [2, 0.5],
    "select.combine.f1/0-2": 0.25,
    "optim.clip-norm": None,
    "optim.epochs": np.int64(4),
    "feed.balance": ["hat", "race"],
    "freeze.depth": "all",
    "model.args.drop_path_rate": "0.1",
    "model.pretrained": False,
    "model.age_output": "regression",
    "seed": 7,
}


def test_entries_of_text_take_the_numbers_of_a_yaml_file():
    given = override(BASE, {"model.args": {"depth": 1, "qkv_bias": False, "act_layer": "relu"}, "model.args.rate": 0.5})
    assert given.model.args == {"depth": "1", "qkv_bias": "false", "act_layer": "relu", "rate": "0.5"}
    with pytest.raises(ConfigError, match=r"loss\.weights\.hat: expected float, found 'x'"):
        override(BASE, {"loss.weights": {"hat": "x"}})


def test_keys_are_changed_and_the_rest_stays():
    changed = override(BASE, CHANGES)
    assert changed.loss.weights == {"hat": 3.0, "glasses": 0.5}
    assert (changed.loss.aux_weight, changed.loss.main, changed.loss.asymmetric_gammas) == (1.0, "hat", (2, 0.5))
    assert isinstance(changed.loss.aux_weight, float)
    assert (changed.optim.clip_norm, changed.optim.epochs, changed.optim.lr) == (None, 4, BASE.optim.lr)
    assert type(changed.optim.epochs) is int
    assert changed.feed.balance == ("hat", "race")
    assert (changed.freeze.depth, changed.model.pretrained, changed.seed) == ("all", False, 7)
    assert (changed.data, changed.workers) == (BASE.data, BASE.workers)
    assert BASE.loss.weights == {}
    assert override(BASE, {}) == BASE


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("loss.auxweight", 1.0, "unknown key 'loss.auxweight'; did you mean 'loss.aux_weight'"),
        ("lr", 1.0, "unknown key 'lr'; did you mean 'optim.lr'"),
        ("loss", 1.0, "unknown key 'loss'"),
        ("optim.lr", "fast", "optim.lr: expected float or Literal['auto'], found 'fast'"),
        ("optim.epochs", 2.5, "optim.epochs: expected int, found 2.5"),
        ("model.pretrained", 1, "model.pretrained: expected bool, found 1"),
        ("optim.name", "lion", "optim.name: expected"),
        ("loss.weights.hat", "x", "loss.weights.hat: expected float, found 'x'"),
        ("optim.lr", -1.0, "--optim.lr: expected more than 0, or auto, found -1.0"),
        ("freeze.head_epochs", 0, "--freeze.head-epochs: expected 1 or more"),
    ],
)
def test_what_does_not_fit_is_refused(key, value, problem):
    with pytest.raises(ConfigError) as error:
        override(BASE, {key: value})
    assert problem in str(error.value)


@pytest.mark.parametrize("config", [BASE, override(BASE, CHANGES)], ids=["defaults", "changed"])
def test_a_config_survives_its_file(tmp_path, config):
    path = tmp_path / "best.yaml"
    path.write_text(dump_config(config))
    assert parse_config(TrainConfig, ["--config", str(path)]) == config


def test_flags_win_over_a_file_and_a_file_over_a_preset(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("data: [d]\noutput: o\noptim: {lr: 0.5, epochs: 9}\nloss: {weights: {hat: 2}}\n")
    argv = ["--preset", "clear_face", "--config", str(path), "--optim.epochs", "3"]
    config = parse_config(TrainConfig, argv, presets=PRESETS_FOLDER)
    assert (config.preset, config.optim.epochs, config.optim.lr) == ("clear_face", 3, 0.5)
    assert (config.loss.main, config.loss.aux_weight, dict(config.loss.weights)) == ("label", 0.1, {"hat": 2.0})
    assert config.feed.batch_size == 32

    path.write_text(dump_config(config))
    again = parse_config(TrainConfig, [f"--config={path}"], presets=PRESETS_FOLDER)
    assert again == config
    plain = parse_config(TrainConfig, [f"--config={path}", "--preset=None"], presets=PRESETS_FOLDER)
    assert plain == dataclasses.replace(config, preset=None)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("loss: {weights: {hat: [1, 2]}}", "loss.weights.'hat' takes one value; write a list as text"),
        ("loss: {weigths: {hat: 1}}", "unknown key 'loss.weigths'; did you mean 'weights'"),
        ("preset: clear", "--preset 'clear': expected one of celeba4, clear_face"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, text, problem):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        parse_config(TrainConfig, ["--data", "d", "--output", "o", "--config", str(path)], presets=PRESETS_FOLDER)
    assert problem in str(error.value)


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"data": ()}, "--data"),
        ({"output": ""}, "--output"),
        ({"attributes": ("hat", "hat")}, "--attributes"),
        ({"workers.num_workers": 0}, "--workers.num-workers"),
        ({"workers.min_workers": 2}, "--workers.min-workers"),
        ({"workers.num_workers": 65, "feed.batch_size": 64}, "--feed.batch-size"),
        ({"freeze.schedule": "two-stage", "freeze.head_epochs": 30}, "--freeze.head-epochs"),
        ({"loss.weighting": "famo", "optim.accumulation": 2}, "--optim.accumulation"),
        ({"augment.crop": 0.9}, "--augment.crop"),
        ({"lora.dropout": 1.0}, "--lora.dropout"),
    ],
)
def test_ranges(changes, flag):
    with pytest.raises(ConfigError, match=rf"^{flag}: expected"):
        override(BASE, changes)
