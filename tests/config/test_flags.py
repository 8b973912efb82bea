"""Every flag once: lists are joined, a second value of a flag of one value is refused by its name."""

import pytest

from faceattr.cli import main, parse_config
from faceattr.commands.predict import Predict
from faceattr.config import EvalConfig, LabelConfig, PackConfig
from faceattr.config.flags import gather_flags
from faceattr.config.search import SearchConfig
from faceattr.config.train import TrainConfig
from faceattr.errors import ConfigError


def train(*words):
    return parse_config(TrainConfig, ["--output=out", *words])


@pytest.mark.parametrize(
    "words",
    [
        ["--data", "a", "--data", "b", "c"],
        ["--data=a", "--data=b", "--data=c"],
        ["--data", "a", "--seed", "1", "--data=b", "c"],
        ["--data", "a", "b", "--data", "c", "--seed", "1"],
    ],
)
def test_a_flag_of_several_values_given_twice_keeps_all_in_order(words):
    assert train(*words).data == ("a", "b", "c")


def test_settings_of_a_search_given_by_two_flags_are_both_kept():
    words = ["--data=d", "--output=o", "--set", "optim.lr=1", "--set", "optim.epochs=2", "--data", "e"]
    config = parse_config(SearchConfig, words)
    assert (config.set, config.data) == (("optim.lr=1", "optim.epochs=2"), ("d", "e"))


def test_pairs_given_by_two_flags_are_both_kept():
    assert train("--data=a", "--loss.weights", "hat", "2", "--loss.weights", "beard", "3").loss.weights == {
        "hat": 2.0,
        "beard": 3.0,
    }


def test_underscores_and_dashes_name_one_flag():
    config = parse_config(PackConfig, ["--labels=l", "--output=o", "--select.any-of", "a", "--select.any_of", "b"])
    assert config.select.any_of == ("a", "b")


@pytest.mark.parametrize(
    ("config_class", "words", "flag", "found"),
    [
        (LabelConfig, ["--images", "a", "--images", "b", "--output", "o"], "--images", "'a'"),
        (LabelConfig, ["--images", "a", "--output=o", "--output", "o"], "--output", "'o'"),
        (LabelConfig, ["--images=a", "--output=o", "--dry-run", "--no-dry-run"], "--no-dry-run", "--dry-run"),
        (LabelConfig, ["--images=a", "--output=o", "--ray.no-dashboard", "--ray.dashboard"], "--ray.dashboard", "no-"),
        (
            LabelConfig,
            ["--images=a", "--output=o", "--storage.deadline_s=1", "--storage.deadline-s=2"],
            "--stor",
            "'1'",
        ),
        (PackConfig, ["--labels", "a", "--labels", "a", "--output=o"], "--labels", "'a'"),
        (TrainConfig, ["--data", "a", "--data", "b", "--data", "a", "--output=o"], "--data", "'a'"),
        (TrainConfig, ["--data=a", "--output=o", "--loss.weights", "h", "1", "h", "2"], "--loss.weights", "'h'"),
        (TrainConfig, ["--data=a", "--output=o", "--optim.epochs=1", "--optim.epochs=2"], "--optim.epochs", "'1'"),
        (EvalConfig, ["--model=m", "--data", "a", "a", "--output=o"], "--data", "'a'"),
        (SearchConfig, ["--data=a", "--output=o", "--set", "optim.lr=1", "--set", "optim.lr=2"], "--set", "'optim.lr'"),
        (PackConfig, ["--labels=a", "--output=o", "--splits.rename", "a=val", "a=test"], "--splits.rename", "'a'"),
        (LabelConfig, ["--config", "a.yaml", "--config=b.yaml"], "--config", "'a.yaml'"),
        (Predict, ["--model=m", "--input=a", "--images=b"], "--images", "'a'"),
    ],
)
def test_what_may_stand_once_and_stands_twice_is_named(config_class, words, flag, found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("images: in\noutput: out\n")
    with pytest.raises(ConfigError, match=rf"^{flag}") as error:
        parse_config(config_class, words)
    assert found in str(error.value)
    assert "\n" not in str(error.value)


def test_a_command_of_faceattr_refuses_a_second_value_too(capsys):
    assert main(["export", "labels", "run", "--format", "csv", "--format", "json"]) == 2
    assert capsys.readouterr().err.startswith("error: --format: given twice, first as 'csv'")


def test_words_behind_a_flag_of_yes_or_no_stay_where_they_are():
    assert gather_flags(Predict, ["x", "--json", "y", "--unknown", "z"]) == ["x", "--json", "y", "--unknown", "z"]
