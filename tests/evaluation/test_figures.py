"""Figures against numbers worked out by hand; resampled figures against scikit-learn's with weights."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    classification_report,
    f1_score,
    mean_absolute_error,
    precision_score,
    recall_score,
    roc_auc_score,
    top_k_accuracy_score,
)

from faceattr.attributes import Attribute
from faceattr.evaluation.calibration.maps import compute_ece
from faceattr.evaluation.figures import Figure, build_cells, compute_combined, compute_figures
from faceattr.evaluation.judged import JudgedRows
from faceattr.evaluation.uncertainty.bootstrap import compute_difference_draws, compute_draws
from faceattr.evaluation.uncertainty.intervals import percentile_interval
from faceattr.evaluation.uncertainty.outcome_counts import BinaryCells
from tests.evaluation import judged_rows

KINDS = [
    judged_rows.binary(),
    judged_rows.binary(seed=1, decimals=0),
    judged_rows.multiclass(),
    judged_rows.multiclass(seed=1, without=(2,)),
    judged_rows.ages(),
    judged_rows.ages(ranges=0.0),
    judged_rows.persons(),
]


def test_a_binary_attribute_by_hand():
    # labels 1 1 0 0 0; scores .9 .2 .6 .1 .2; cut .5: one right yes, one missed, one wrong yes, two right no.
    scores = np.array([0.9, 0.2, 0.6, 0.1, 0.2])
    judged = JudgedRows(
        attribute=judged_rows.BINARY,
        rows=np.arange(5),
        labels=np.array([1, 1, 0, 0, 0]),
        outputs=np.log(scores / (1 - scores)),
        scores=scores,
        predictions=(scores >= 0.5).astype(np.int64),
    )
    figures = {name: each.value for name, each in compute_figures(judged).items()}
    assert figures == {
        "accuracy": 3 / 5,
        "balanced_accuracy": pytest.approx((1 / 2 + 2 / 3) / 2),
        "precision": 1 / 2,
        "recall": 1 / 2,
        "f1": 1 / 2,
        # Falling scores: yes (1/1), no, {yes, no} together (2/4), no: 1/2 * 1 + 1/2 * 2/4.
        "ap": pytest.approx(0.75),
        # Pairs of yes and no: 0.9 beats all three; 0.2 beats 0.1, ties 0.2, loses to 0.6: (3 + 1.5) / 6.
        "auc": pytest.approx(0.75),
        # -log of .9, .2, .4, .9 and .8.
        "log_loss": pytest.approx(-np.log([0.9, 0.2, 0.4, 0.9, 0.8]).mean()),
        # One bin of five rows: gap 2/5 - 2/5 = 0, less its variance is less than 0.
        "calibration_error": 0.0,
        # Each score but the two of 0.2 is alone in its bin of 1/15; these two are in [3/15, 4/15) with one yes.
        "ece": pytest.approx((0.1 + 0.6 + 0.1 + 2 * abs(0.5 - 0.2)) / 5),
    }


def test_ages_by_hand():
    judged = JudgedRows(
        attribute=judged_rows.AGE,
        rows=np.arange(4),
        labels=np.array([[20, 21], [30, 31], [40, 50], [50, 60]], np.float64),
        outputs=np.zeros(4),
        scores=np.zeros(4),
        predictions=np.array([24.0, 21.0, 49.9, 60.0]),
    )
    found = compute_figures(judged)
    assert {name: each.value for name, each in found.items()} == {
        "mae": 6.5,
        "rmse": pytest.approx(np.sqrt((16 + 81) / 2)),
        "bias": -2.5,
        "within_5": 0.5,
        "range_accuracy": 0.5,
    }
    assert found["mae"].count == found["range_accuracy"].count == 2


@pytest.mark.parametrize("judged", [KINDS[0], KINDS[1]], ids=["distinct", "ties"])
def test_binary_figures_are_sklearns(judged):
    labels, said, scores = judged.labels, judged.predictions, judged.scores
    found = compute_figures(judged)
    for name, wanted in {
        "balanced_accuracy": balanced_accuracy_score(labels, said),
        "precision": precision_score(labels, said),
        "recall": recall_score(labels, said),
        "f1": f1_score(labels, said),
        "ap": average_precision_score(labels, scores),
        "auc": roc_auc_score(labels, scores),
    }.items():
        assert found[name] == Figure(pytest.approx(wanted), 400)


def test_class_figures_are_those_of_sklearns_report():
    judged = KINDS[2]
    report = classification_report(
        judged.labels, judged.predictions, target_names=judged.attribute.classes, output_dict=True
    )
    found = compute_figures(judged)
    assert found["accuracy"].value == pytest.approx(report["accuracy"])
    assert found["macro_f1"].value == pytest.approx(report["macro avg"]["f1-score"])
    assert found["macro_precision"].value == pytest.approx(report["macro avg"]["precision"])
    assert found["weighted_f1"].value == pytest.approx(report["weighted avg"]["f1-score"])
    for name in judged.attribute.classes:
        assert found[f"f1/{name}"].value == pytest.approx(report[name]["f1-score"])
        assert found[f"recall/{name}"].value == pytest.approx(report[name]["recall"])
        assert found[f"precision/{name}"].value == pytest.approx(report[name]["precision"])
        assert found[f"recall/{name}"].count == report[name]["support"]
    brown = roc_auc_score(judged.labels == 1, judged.scores[:, 1])
    assert found["auc/brown"].value == pytest.approx(brown)


def test_a_class_without_rows_is_nan_and_left_out_of_means():
    judged = KINDS[3]
    found = compute_figures(judged)
    assert np.isnan(found["recall/gray"].value)
    assert np.isnan(found["auc/gray"].value)
    assert found["recall/gray"].count == 0
    assert found["balanced_accuracy"].value == pytest.approx(balanced_accuracy_score(judged.labels, judged.predictions))
    assert found["macro_f1"].value == pytest.approx(f1_score(judged.labels, judged.predictions, average="macro"))


def test_persons_are_sklearns():
    judged = KINDS[6]
    rng = np.random.default_rng(0)
    logits = rng.random((400, 40))  # any scores with the same five on top
    np.put_along_axis(logits, judged.outputs, np.array([6.0, 5, 4, 3, 2])[None], 1)
    found = compute_figures(judged)
    wanted = top_k_accuracy_score(judged.labels, logits, k=5, labels=range(40))
    assert found["top5"].value == pytest.approx(wanted)
    assert found["top1"].value == pytest.approx((judged.labels == judged.predictions).mean())
    assert found["macro_f1"].value == pytest.approx(f1_score(judged.labels, judged.predictions, average="macro"))


def test_age_mae_is_sklearns():
    judged = KINDS[5]
    wanted = mean_absolute_error(judged.labels[:, 0], judged.predictions)
    assert compute_figures(judged)["mae"] == Figure(pytest.approx(wanted), 400)


def test_coarse_labels_count_where_the_prediction_is_possible():
    judged = judged_rows.multiclass(20)
    possible = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 1, 0]], bool)
    with_coarse = JudgedRows(**{**vars(judged), "coarse": (possible, np.array([1, 0, 2]))})
    assert compute_figures(with_coarse)["coarse_accuracy"] == Figure(pytest.approx(2 / 3), 3)


def test_the_combined_score_is_seed_001s():
    figures = {"gender": {"accuracy": Figure(0.9, 50)}, "who": {"top1": Figure(0.8, 40)}}
    found = compute_combined(figures, "who")
    assert found == Figure(pytest.approx(0.3 * 0.9 + 0.7 * 0.8), 40)
    assert compute_combined(figures, None) is None


def test_ece_is_that_of_sklearns_curve():
    judged = judged_rows.binary(2_000)
    share, mean = calibration_curve(judged.labels, judged.scores, n_bins=15)
    edges = np.linspace(0, 1, 16)
    sizes = np.histogram(judged.scores, edges)[0]
    wanted = (np.abs(share - mean) * sizes[sizes > 0]).sum() / sizes.sum()
    assert compute_ece(judged.labels == 1, judged.scores) == pytest.approx(wanted)


# --- resampling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("judged", KINDS, ids=lambda each: each.attribute.name)
def test_cells_at_the_counts_as_observed_give_the_figures(judged):
    cells = build_cells(judged)
    found = {name: float(values[0]) for name, values in cells.figures(cells.counts[None].astype(float)).items()}
    wanted = {name: each.value for name, each in compute_figures(judged).items()}
    closed = ("ap/", "auc/", "ece", "calibration_error")  # by class, or without draws
    assert found.keys() == {name for name in wanted if not name.startswith(closed)}
    for name, value in found.items():
        assert value == pytest.approx(wanted[name], nan_ok=True), name


@pytest.mark.parametrize("judged", KINDS[:2], ids=["distinct", "ties"])
def test_cells_with_other_counts_give_sklearns_weighted_figures(judged):
    weights = np.random.default_rng(2).integers(0, 4, len(judged))
    cells = build_cells(judged)
    counts = np.bincount(cells.place, weights=weights, minlength=cells.num_cells)
    found = {name: float(values[0]) for name, values in cells.figures(counts[None]).items()}
    labels, said, scores = judged.labels, judged.predictions, judged.scores
    for name, wanted in {
        "balanced_accuracy": balanced_accuracy_score(labels, said, sample_weight=weights),
        "precision": precision_score(labels, said, sample_weight=weights),
        "f1": f1_score(labels, said, sample_weight=weights),
        "ap": average_precision_score(labels, scores, sample_weight=weights),
        "auc": roc_auc_score(labels, scores, sample_weight=weights),
    }.items():
        assert found[name] == pytest.approx(wanted), name


def test_shared_places_hardly_move_the_curves():
    judged = judged_rows.binary(20_000)
    cells = BinaryCells(judged.labels, judged.scores, judged.predictions, 512)
    assert cells.num_cells < 1_400
    found = cells.figures(cells.counts[None].astype(float))
    assert float(found["auc"][0]) == pytest.approx(roc_auc_score(judged.labels, judged.scores), abs=2e-4)
    assert float(found["ap"][0]) == pytest.approx(average_precision_score(judged.labels, judged.scores), abs=2e-3)
    assert float(found["f1"][0]) == pytest.approx(f1_score(judged.labels, judged.predictions))


def test_draws_are_those_of_a_loop_over_resampled_rows():
    """The same experiment written plainly: rows drawn one by one, scikit-learn on each draw."""
    judged = judged_rows.binary(300)
    draws = compute_draws(judged, resamples=4_000, seed=1)
    rng = np.random.default_rng(5)
    plain = {"f1": [], "auc": []}
    for _ in range(1_000):
        rows = rng.integers(0, 300, 300)
        plain["f1"].append(f1_score(judged.labels[rows], judged.predictions[rows]))
        plain["auc"].append(roc_auc_score(judged.labels[rows], judged.scores[rows]))
    for name, values in plain.items():
        wanted = np.percentile(values, [2.5, 97.5])
        interval = percentile_interval(draws[name], len(judged))
        width = wanted[1] - wanted[0]
        assert interval.low == pytest.approx(wanted[0], abs=0.12 * width), name
        assert interval.high == pytest.approx(wanted[1], abs=0.12 * width), name
        assert draws[name].mean() == pytest.approx(np.mean(values), abs=0.05 * width), name


def test_the_draws_of_a_share_spread_as_its_standard_error():
    """Of a share p of n rows it is sqrt(p (1 - p) / n); the years' is sd / sqrt(n)."""
    judged, ages = judged_rows.binary(1_000), judged_rows.ages(1_000, ranges=0.0)
    right = (judged.predictions == judged.labels).mean()
    draws = compute_draws(judged, resamples=3_000)
    assert draws["accuracy"].std() == pytest.approx(np.sqrt(right * (1 - right) / 1_000), rel=0.05)
    error = np.abs(ages.predictions - ages.labels[:, 0])
    assert compute_draws(ages, resamples=3_000)["mae"].std() == pytest.approx(error.std() / np.sqrt(1_000), rel=0.05)


def test_the_seed_decides_the_draws():
    judged = judged_rows.multiclass()
    first, again, other = (compute_draws(judged, resamples=50, seed=seed) for seed in (3, 3, 4))
    for name, values in first.items():
        np.testing.assert_array_equal(values, again[name])
    assert not np.array_equal(first["accuracy"], other["accuracy"])


def test_a_model_is_no_better_than_itself_and_better_than_a_worse_one():
    judged = judged_rows.binary(600)
    for values in compute_difference_draws(judged, judged, resamples=100).values():
        assert np.nanmax(np.abs(values)) < 1e-12
    better = JudgedRows(**{**vars(judged), "predictions": judged.labels})
    interval = percentile_interval(compute_difference_draws(judged, better, resamples=500)["accuracy"], 600)
    assert interval.low > 0
    assert interval.low < 1 - (judged.predictions == judged.labels).mean() < interval.high


def test_pairs_are_drawn_together():
    """Two models that err on the same rows: the difference of their accuracies is much surer than each of them."""
    first = judged_rows.binary(800)
    second = JudgedRows(
        **{**vars(first), "predictions": np.where(np.arange(800) < 8, 1 - first.predictions, first.predictions)}
    )
    alone = compute_draws(first, resamples=1_000)["accuracy"].std()
    together = compute_difference_draws(first, second, resamples=1_000)["accuracy"].std()
    assert together < alone / 3


def test_other_rows_cannot_be_compared():
    with pytest.raises(ValueError, match="same labelled rows"):
        compute_difference_draws(judged_rows.binary(10), judged_rows.binary(12))


def test_nothing_judged_has_no_figures():
    empty = judged_rows.binary().take(np.zeros(0, np.int64))
    assert compute_figures(empty) == {}
    assert compute_draws(empty) == {}


def test_one_kind_of_label_has_no_curves():
    judged = judged_rows.binary().take(np.arange(400)[judged_rows.binary().labels == 1])
    found = compute_figures(judged)
    assert np.isnan(found["auc"].value)
    assert np.isnan(found["ap"].value)
    assert found["recall"].value == found["accuracy"].value
    draws = compute_draws(judged, resamples=20)
    assert np.isnan(draws["auc"]).all()
    assert np.isnan(percentile_interval(draws["auc"], 280).low)


def test_an_attribute_of_two_classes_is_judged_by_class():
    gender = Attribute(name="gender", kind="multiclass", classes=("Male", "Female"))
    labels = np.array([0, 0, 1, 1, 1])
    scores = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]])
    judged = JudgedRows(
        attribute=gender,
        rows=np.arange(5),
        labels=labels,
        outputs=np.log(scores),
        scores=scores,
        predictions=scores.argmax(1),
    )
    found = compute_figures(judged)
    assert found["accuracy"].value == 3 / 5
    assert found["recall/Female"] == Figure(pytest.approx(2 / 3), 3)
    assert found["precision/Male"] == Figure(pytest.approx(1 / 2), 2)
