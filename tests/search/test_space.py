import numpy as np
import optuna
import pytest

from faceattr.config.overrides import override, read_setting
from faceattr.config.train import TrainConfig
from faceattr.errors import ConfigError
from faceattr.search.default_space import build_default_space
from faceattr.search.distributions import Choice, RandInt, Uniform
from faceattr.search.sampler import Sampler
from faceattr.search.space import check_space, parse_space
from faceattr.search.spaces import SPACES_FOLDER
from faceattr.training.recipe import resolve_recipe
from faceattr.yaml_files import load_yaml

BASE = TrainConfig(data=("packed",), output="out")
NAMES = ("hat", "glasses", "age")
TEXT = """
optim.epochs: 5
optim.lr: {loguniform: [1e-4, 1e-2]}
freeze.depth: {choice: [all, 9, 6]}
optim.layer-decay: {uniform: [0.6, 1.0], when: {freeze.depth: [9, 6]}, else: 1.0}
loss.weights.hat: {uniform: [0, 4], when: {freeze.depth: all}}
seed: {randint: [1, 3]}
"""


def space(text=TEXT):
    return parse_space(load_yaml(text, "a file"), "a file")


def test_a_file_says_what_settings_may_be():
    found = space()
    assert found.fixed == {"optim.epochs": 5}
    assert found.searched["optim.lr"].distribution == Uniform(1e-4, 1e-2, log=True)
    assert found.searched["freeze.depth"].distribution == Choice(("all", 9, 6))
    assert found.searched["seed"].distribution == RandInt(1, 3)
    assert found.searched["optim.layer_decay"].when == {"freeze.depth": (9, 6)}
    assert parse_space(found.to_json(), "again").to_json() == found.to_json()


@pytest.mark.parametrize("by", ["rng", "optuna"])
def test_drawn_settings_are_possible_and_conditions_hold(by):
    found = check_and_draw(space(), by)
    depths = {values["freeze.depth"] for values in found}
    assert depths == {"all", 9, 6}
    for values in found:
        assert 1e-4 <= values["optim.lr"] <= 1e-2
        assert values["seed"] in (1, 2, 3)
        heads_only = values["freeze.depth"] == "all"
        assert ("loss.weights.hat" in values) == heads_only
        assert (values["optim.layer_decay"] == 1.0) == heads_only
        assert override(BASE, values).optim.lr == values["optim.lr"]
    logs = np.log10([values["optim.lr"] for values in found])
    assert np.mean(logs < -3) == pytest.approx(0.5, abs=0.2)  # evenly in the logarithm


def check_and_draw(found, by):
    check_space(found, BASE, NAMES)
    if by == "rng":
        return [found.draw(np.random.default_rng(seed)) for seed in range(60)]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [found.suggest(study.ask()) for _ in range(60)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("optim.lrr: {uniform: [0.1, 1]}", "unknown key 'optim.lrr'.*did you mean 'optim.lr'"),
        ("optim.lr: {uniform: [0, 1]}", "optim.lr cannot be 0.0.*more than 0"),
        ("optim.lr: {uniform: [1, 0.1]}", r"range \[low, high\].*\[1.0, 0.1\]"),
        ("optim.lr: {loguniform: [0, 1]}", "above 0 for loguniform"),
        ("optim.lr: {uniform: [a, b]}", "two numbers for uniform"),
        ("optim.lr: {normal: [0, 1]}", "one of uniform, loguniform, randint, choice"),
        ("optim.epochs: {uniform: [1, 4]}", "optim.epochs cannot be 1.0.*expected int"),
        ("optim.epochs: {randint: [0, 4]}", "optim.epochs cannot be 0"),
        ("optim.epochs: {randint: [1.5, 4]}", "whole numbers"),
        ("model.head: {choice: [linear, big]}", "model.head cannot be 'big'"),
        ("model.head: {choice: []}", "at least one value"),
        ("loss.weights.hatt: {uniform: [0, 1]}", "hatt.*did you mean 'hat'"),
        ("loss.main: {choice: [hat, gloves]}", "'gloves' is not learnt"),
        ("data: {choice: [a, b]}", "'data' cannot be part of a space"),
        ("workers.num_workers: {randint: [1, 2]}", "cannot be part of a space"),
        ("optim.epochs: 3", "searches nothing"),
        ("optim.epochs: 0\nseed: {randint: [1, 2]}", "optim.epochs.*1 or more"),
        ("seed: {randint: [1, 2], when: {optim.lr: [1]}}", "'optim.lr' is not searched"),
        (
            "seed: {randint: [1, 2], when: {model.head: [big]}}\nmodel.head: {choice: [linear, mlp]}",
            "model.head is never 'big'",
        ),
        (
            "seed: {randint: [1, 2], when: {optim.epochs: [1]}}\noptim.epochs: {randint: [1, 2], when: {seed: [1]}}",
            "in a circle",
        ),
        ("- a", "expected 'key: value' lines"),
        ("a: [", "not valid YAML"),
    ],
)
def test_what_cannot_be_is_refused(text, words):
    with pytest.raises(ConfigError, match=words):
        check_space(space(text), BASE, NAMES)


@pytest.mark.parametrize("main", [None, "hat"])
@pytest.mark.parametrize(("num_blocks", "can_split"), [(13, True), (2, True), (9, False)])
def test_the_default_space_fits_the_data_and_the_backbone(main, num_blocks, can_split):
    base = resolve_recipe(override(BASE, {"loss.main": main}), num_images=8_000).config
    found = build_default_space(base, NAMES, num_blocks=num_blocks, can_split=can_split)
    check_space(found, base, NAMES)
    assert {"freeze.depth", "model.head", "optim.lr", "optim.layer_decay", "augment.strength"} <= set(found.searched)
    assert ("loss.label_weight" in found.searched) == (main is not None)
    weighed = {key.removeprefix("loss.weights.") for key in found.searched if key.startswith("loss.weights.")}
    assert weighed == set(NAMES) - {main}
    assert all(depth == "all" or 0 <= depth < num_blocks for depth in found.possible("freeze.depth"))
    for seed in range(20):
        override(base, found.draw(np.random.default_rng(seed)))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_random_blocks_are_never_frozen_and_learn_at_rates_that_move_them(optimizer):
    given = override(BASE, {"model.pretrained": False, "optim.name": optimizer})
    base = resolve_recipe(given, num_images=8_000).config
    found = build_default_space(base, NAMES, num_blocks=5, can_split=True)
    assert not {"freeze.depth", "optim.layer_decay"} & set(found.searched)
    low, high = found.possible("optim.lr")
    assert low >= 3e-4
    if optimizer == "adamw":
        assert high <= 1e-2


CHANGES = [
    {},
    {"loss.main": "hat"},
    {"model.pretrained": False},
    {"model.pretrained": False, "optim.lr": 0.05, "augment.strength": 2.0},
    {"freeze.depth": "all", "augment.strength": 0},
    {"freeze.depth": -1, "augment.strength": 0, "optim.layer_decay": 1},
    {"freeze.depth": 3, "loss.weights": {"glasses": 9.0}},
    {"optim.lr": 1e-6, "model.head": "celeba4"},
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_the_default_space_holds_the_shared_settings(changes):
    base = resolve_recipe(override(BASE, changes), num_images=8_000).config
    found = build_default_space(base, NAMES, num_blocks=13, can_split=True)
    values = found.find_values(base)
    assert values is not None
    assert override(base, values) == override(base, {name: read_setting(base, name) for name in values})
    for algorithm in ("random", "tpe"):
        sampler = Sampler(found, algorithm, seed=0, two_objectives=False, num_samples=8, first=values)
        assert sampler.ask(0) == values
        assert sampler.ask(1) != values


def test_a_space_that_excludes_the_shared_settings_says_so():
    base = resolve_recipe(override(BASE, {"optim.lr": 1.0}), num_images=8_000).config
    assert space("optim.lr: {loguniform: [1e-4, 1e-2]}").find_values(base) is None
    assert space("optim.lr: {loguniform: [1e-4, 1]}").find_values(base) == {"optim.lr": 1.0}


@pytest.mark.parametrize("path", sorted(SPACES_FOLDER.glob("*.yaml")), ids=str)
def test_the_spaces_that_ship_are_possible(path):
    found = parse_space(load_yaml(path.read_text(), path.name), path.name)
    names = {key.removeprefix("loss.weights.") for key in found.searched if key.startswith("loss.weights.")}
    main = found.fixed.get("loss.main")
    check_space(found, BASE, sorted(names | ({main} if main else set())))
