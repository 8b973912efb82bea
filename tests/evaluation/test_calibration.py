"""Calibration against scikit-learn's own classifier, and applied again as it is stored."""

import json

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import log_loss

from faceattr.attributes import Attribute
from faceattr.errors import ModelError
from faceattr.evaluation.calibration.choice import choose_calibration
from faceattr.evaluation.calibration.maps import choose_method, compute_ece, fit_settings
from faceattr.evaluation.calibration.moved import move_threshold
from faceattr.evaluation.judged import JudgedRows
from faceattr.evaluation.scores import score_outputs
from tests.evaluation import judged_rows


class Scored(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose features are its outputs: logits, or probabilities."""

    def __init__(self, classes, probabilities=False):
        self.classes = classes
        self.classes_ = np.arange(classes)
        self.probabilities = probabilities

    def fit(self, x, y):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def __getattr__(self, name):
        if name == "predict_proba" and self.__dict__.get("probabilities"):
            return lambda x: np.concatenate([1 - x, x], 1) if x.shape[1] == 1 else x
        if name == "decision_function" and not self.__dict__.get("probabilities"):
            return lambda x: x[:, 0] if x.shape[1] == 1 else x
        raise AttributeError(name)


def sklearns(estimator, method, x, labels):
    """CalibratedClassifierCV on one fold that is everything."""
    everything = [(np.arange(len(x)), np.arange(len(x)))]
    return CalibratedClassifierCV(estimator, method=method, cv=everything, ensemble=True).fit(x, labels)


def test_a_temperature_of_a_binary_attribute_is_sklearns():
    judged = judged_rows.binary(3_000)
    settings = fit_settings(judged, "temperature")
    assert settings["num_rows"] == 3_000
    logits = judged.outputs.astype(np.float64)[:, None]
    # sklearn's two logits are -x and x, so that of x / 2 it scales as we do.
    wanted = sklearns(Scored(2), "temperature", logits / 2, judged.labels).predict_proba(logits / 2)[:, 1]
    found = score_outputs(judged.attribute, judged.outputs[:, None], json.loads(json.dumps(settings)))
    np.testing.assert_allclose(found, wanted, atol=2e-4)


def test_a_temperature_of_classes_is_sklearns():
    judged = judged_rows.multiclass(3_000)
    settings = fit_settings(judged, "temperature")
    logits = judged.outputs.astype(np.float64)
    wanted = sklearns(Scored(4), "temperature", logits, judged.labels).predict_proba(logits)
    found = score_outputs(judged.attribute, judged.outputs, json.loads(json.dumps(settings)))
    np.testing.assert_allclose(found, wanted, atol=2e-4)


@pytest.mark.parametrize("make", [judged_rows.binary, judged_rows.multiclass])
def test_isotonic_curves_are_sklearns(make):
    judged = make(2_000)
    settings = json.loads(json.dumps(fit_settings(judged, "isotonic")))
    assert settings["method"] == "isotonic"
    scores = judged.scores.astype(np.float32).astype(np.float64)
    if scores.ndim == 1:
        curve = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores, judged.labels)
        wanted = curve.predict(scores)
    else:
        wanted = sklearns(Scored(4, probabilities=True), "isotonic", scores, judged.labels).predict_proba(scores)
    outputs = judged.outputs[:, None] if scores.ndim == 1 else judged.outputs
    found = score_outputs(judged.attribute, outputs, settings)
    # A score may stand on the other side of a step, by the last bit of float32.
    off = np.abs(found - wanted)
    assert np.quantile(off, 0.98) < 1e-3


def test_overconfident_scores_are_mended():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 4_000).astype(np.float32)
    labels = (rng.random(4_000) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    judged = judged_rows.binary(4_000)
    sharp = type(judged)(**{**vars(judged), "labels": labels, "outputs": 4 * logits})
    before = 1 / (1 + np.exp(-4.0 * logits))
    for method in ("temperature", "isotonic"):
        after = score_outputs(judged.attribute, sharp.outputs[:, None], fit_settings(sharp, method))
        assert compute_ece(labels == 1, after) < 0.3 * compute_ece(labels == 1, before)


def test_a_temperature_keeps_the_order_of_scores():
    judged = judged_rows.binary(300)
    after = score_outputs(judged.attribute, judged.outputs[:, None], fit_settings(judged, "temperature"))
    assert np.array_equal(np.argsort(after, kind="stable"), np.argsort(judged.outputs, kind="stable"))


def test_a_curve_is_linear_between_its_knots_and_flat_outside():
    curve = {"method": "isotonic", "curves": [{"x": [0.2, 0.4, 0.6], "y": [0.1, 0.5, 0.7]}]}
    scores = np.array([0.01, 0.2, 0.3, 0.4, 0.55, 0.6, 0.99])
    found = score_outputs(judged_rows.BINARY, np.log(scores / (1 - scores))[:, None], curve)
    np.testing.assert_allclose(found, [0.1, 0.1, 0.3, 0.5, 0.65, 0.7, 0.7], atol=1e-6)


def test_few_rows_or_one_kind_of_label_calibrate_nothing():
    judged = judged_rows.binary(400)
    assert choose_method(judged.take(np.arange(10)), "temperature") is None
    assert choose_method(judged.take(np.flatnonzero(judged.labels == 0)), "temperature") is None
    assert choose_method(judged, "none") is None
    assert choose_method(judged_rows.ages(), "temperature") is None
    assert choose_method(judged_rows.persons(), "temperature") is None
    assert choose_method(judged.take(np.arange(100)), "isotonic") == "temperature"
    assert choose_method(judged, "isotonic") == "isotonic"
    assert choose_calibration(judged.take(np.arange(10)), "temperature") == (None, None)


def told(num, *, sharp, seed, photos=1):
    """Binary rows whose logits are `sharp` times what they should be; labels and logits are a person's."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, num)
    labels = (rng.random(num) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    person = np.repeat(np.arange(num), photos)
    outputs = (sharp * logits)[person].astype(np.float32)
    scores = 1 / (1 + np.exp(-outputs.astype(np.float64)))
    return JudgedRows(
        attribute=judged_rows.BINARY,
        rows=np.arange(len(person)),
        labels=labels[person],
        outputs=outputs,
        scores=scores,
        predictions=(scores >= 0.5).astype(np.int64),
        clusters=None if photos == 1 else person,
    )


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_a_calibration_that_helps_is_kept_and_says_by_how_much(method):
    judged = told(4_000, sharp=4.0, seed=0)
    settings, trial = choose_calibration(judged, method)
    assert settings == fit_settings(judged, method)
    assert trial.kept
    assert (trial.folds, trial.by) == (5, "row")
    assert trial.log_loss_before == pytest.approx(log_loss(judged.labels, judged.scores), rel=1e-3)  # float32
    # New rows of the same source, as scikit-learn counts: the cross-fitted loss foretells theirs.
    fresh = told(20_000, sharp=4.0, seed=1)
    wanted = log_loss(fresh.labels, score_outputs(fresh.attribute, fresh.outputs[:, None], settings))
    assert trial.log_loss_after == pytest.approx(wanted, rel=0.06)
    assert wanted < log_loss(fresh.labels, fresh.scores) - 0.1
    assert "kept: cross-fitted log loss on validation" in str(trial)


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_a_calibration_that_does_not_help_is_not_kept(method):
    """Of calibrated scores: fitted on all rows it would look better on the same rows, every time."""
    kept = 0
    for seed in range(30):
        judged = told(300, sharp=1.0, seed=seed)
        settings, trial = choose_calibration(judged, method)
        kept += trial.kept
        assert (settings is None) == (not trial.kept)
        everything = score_outputs(judged.attribute, judged.outputs[:, None], fit_settings(judged, method))
        assert log_loss(judged.labels, everything) <= trial.log_loss_before + 1e-6
    assert kept <= 10


def test_photos_of_a_person_do_not_judge_one_another():
    """An isotonic curve learns each person by heart; folds that part a person's photos would take that for help."""
    judged = told(60, sharp=1.0, seed=0, photos=10)
    settings, trial = choose_calibration(judged, "isotonic")
    assert (settings, trial.by, trial.kept) == (None, "group", False)
    parted = JudgedRows(**{**vars(judged), "clusters": None})
    assert choose_calibration(parted, "isotonic")[1].log_loss_after < trial.log_loss_before


def test_a_curve_never_says_never():
    judged = told(300, sharp=3.0, seed=0)
    y = fit_settings(judged, "isotonic")["curves"][0]["y"]
    assert (y[0], y[-1]) == (pytest.approx(1 / 302), pytest.approx(301 / 302))


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "magic"},
        {},
        {"method": "temperature", "temperature": 0},
        {"method": "isotonic", "curves": []},
        {"method": "isotonic", "curves": [{"x": [0.5, 0.4], "y": [0, 1]}]},
        {"method": "isotonic", "curves": [{"x": [0.4, 0.5], "y": [0, 2]}]},
    ],
)
def test_settings_that_cannot_be_are_refused_with_the_attributes_name(settings):
    with pytest.raises(ModelError, match="calibration of 'hat' cannot be read"):
        score_outputs(judged_rows.BINARY, np.zeros((2, 1), np.float32), settings)


CURVE = {"method": "isotonic", "curves": [{"x": [0.0, 0.5, 1.0], "y": [0.1, 0.2, 0.9]}], "num_rows": 200}


@pytest.mark.parametrize(
    ("threshold", "before", "after", "expected"),
    [
        (0.3, CURVE, CURVE, 0.3),
        # log(0.0652 / 0.9348) = -2.66287, divided by 1.128 -2.36070, of which the sigmoid is 0.0862188
        (0.0652, None, {"method": "temperature", "temperature": 1.128}, 0.0862188),
        (0.0862188, {"method": "temperature", "temperature": 1.128}, None, 0.0652),
        (0.5, None, CURVE, 0.2),
        (0.75, None, CURVE, 0.55),
        (0.55, CURVE, None, 0.75),
        (0.05, CURVE, None, 0.0),  # all were a yes
        (0.95, CURVE, None, 0.95),  # none was
    ],
)
def test_a_threshold_moves_with_its_scores(threshold, before, after, expected):
    moved = move_threshold(threshold, Attribute(name="hat"), before=before, after=after)
    assert moved == pytest.approx(expected, rel=1e-5)
