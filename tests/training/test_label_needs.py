"""What the settings of a training need of its labels is judged by the counts of the packed run."""

import math

import pytest

from faceattr.attributes import Attribute, AttributeSet
from faceattr.config.fit import SelectionConfig
from faceattr.data.packed.reader import open_packed
from faceattr.errors import ConfigError
from faceattr.training.label_needs import best_figures, check_label_needs
from tests.packed_runs import write_packed_run

GLASSES = Attribute(name="glasses")
TONE = Attribute(name="tone", kind="multiclass", classes=("dark", "light", "other"))
AGE = Attribute(name="age", kind="age", classes=())
PERSON = Attribute(name="person", kind="identity", classes=("p1", "p2"))
ATTRIBUTES = AttributeSet(attributes=(GLASSES, TONE, AGE, PERSON))
IMAGE = b"image"
TRAIN = [
    {"image": IMAGE, "glasses": n % 2, "tone": n % 3, "age_low": 5.0, "age_high": 6.0, "person": n % 2}
    for n in range(12)
]


def data_of(folder, val, train=TRAIN, **kwargs):
    return open_packed([write_packed_run(folder, ATTRIBUTES, {"train": train, "val": val}, **kwargs)])


def check(data, metric="loss", **select):
    check_label_needs(SelectionConfig(metric=metric, **select), ATTRIBUTES, data)


def test_a_figure_that_validation_cannot_define_is_refused_with_what_was_found(tmp_path):
    data = data_of(tmp_path, [{"image": IMAGE, "glasses": 0, "tone": 0} for _ in range(6)])
    with pytest.raises(ConfigError, match=r"'glasses/auc': no validation image.*'glasses'.*no 6, yes 0"):
        check(data, "glasses/auc")
    for metric in ("glasses/recall", "glasses/ap", "tone/recall/light", "tone/coarse_accuracy", "age/mae", "age/loss"):
        with pytest.raises(ConfigError, match="no validation image has a label"):
            check(data, metric)
    for metric in ("glasses/accuracy", "glasses/balanced_accuracy", "tone/recall/dark", "tone/macro_f1", "loss"):
        check(data, metric)


def test_one_of_a_combination_is_refused_too(tmp_path):
    data = data_of(tmp_path, [{"image": IMAGE, "glasses": 0} for _ in range(6)])
    with pytest.raises(ConfigError, match="'person/top1'"):
        check(data, combine={"glasses/accuracy": 1.0, "person/top1": 1.0})


def test_unknown_figures_get_near_ones(tmp_path):
    with pytest.raises(ConfigError, match=r"'glasses/aux' is no figure of validation; near ones: .*glasses/auc"):
        check(data_of(tmp_path, TRAIN), "glasses/aux")


def test_an_attribute_without_training_labels_is_refused(tmp_path):
    bare = [{key: value for key, value in row.items() if not key.startswith("age")} for row in TRAIN]
    with pytest.raises(ConfigError, match=r"no training image has a label of \['age'\].*--attributes glasses tone"):
        check(data_of(tmp_path / "bare", TRAIN, train=bare))
    # Scores alone are learnt from, and are not counted.
    scored = [{**row, "glasses": None, "glasses_score": 0.4, "glasses_mass": 1.0} for row in TRAIN]
    check(data_of(tmp_path / "scored", scored, train=scored, scored=frozenset(["glasses"])), "glasses/loss")


def test_figures_of_a_model_that_is_always_right():
    counts = {
        "glasses": {"no": 3, "yes": 1, "unknown": 9},
        "tone": {"dark": 2, "light": 0, "other": 1, "dark|light": 4, "unknown": 0},
        "age": {"0-9": 1, "unknown": 0},
        "person": {"p1": 0, "p2": 0, "unknown": 4},
    }
    figures = best_figures(ATTRIBUTES, counts)
    assert figures["glasses/auc"] == figures["glasses/f1"] == figures["tone/macro_f1"] == 1
    assert figures["tone/coarse_accuracy"] == figures["age/within_5"] == figures["age/range_accuracy"] == 1
    assert figures["tone/empty_classes"] == 1
    assert math.isnan(figures["tone/recall/light"])
    assert math.isnan(figures["person/top1"])
