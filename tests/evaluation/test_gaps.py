"""Gaps between groups: of groups without a difference chance explains them, by simulation and by permutation."""

import numpy as np
import pytest
from fairlearn.metrics import MetricFrame, selection_rate
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, precision_score, recall_score

from faceattr.evaluation.gaps import compute_gaps
from faceattr.evaluation.groups import compute_group_tables
from faceattr.evaluation.judged import JudgedRows
from tests.evaluation import judged_rows

NAMES = np.array([f"g{number}" for number in range(7)], object)


def groups_of(shares, rows, *, seed, photos=1):
    """Binary rows whose predictions are right in a given share of each group's persons, each with some photos."""
    rng = np.random.default_rng(seed)
    persons = np.repeat(np.arange(len(shares)), rows // photos)
    right = np.repeat(rng.random(len(persons)) < np.array(shares)[persons], photos)
    labels = rng.integers(0, 2, len(right))
    judged = JudgedRows(
        attribute=judged_rows.BINARY,
        rows=np.arange(len(right)),
        labels=labels,
        outputs=np.zeros(len(right), np.float32),
        scores=np.full(len(right), 0.5),
        predictions=np.where(right, labels, 1 - labels),
        clusters=None if photos == 1 else np.repeat(np.arange(len(persons)), photos),
    )
    return judged, NAMES[np.repeat(persons, photos)]


def test_a_gap_of_seven_equal_groups_of_thirty_rows_is_chance():
    gaps = [
        compute_gaps(*groups_of([0.85] * 7, 30, seed=seed), resamples=200, seed=0)["accuracy"] for seed in range(200)
    ]
    values = [gap.value for gap in gaps]
    assert 0.15 < np.mean(values) < 0.2  # what was printed without a word
    assert np.mean([gap.by_chance for gap in gaps]) == pytest.approx(np.mean(values), rel=0.1)
    assert np.mean([gap.verdict == "within chance" for gap in gaps]) >= 0.93
    assert all(gap.interval.low <= gap.value <= gap.interval.high for gap in gaps)


def test_what_chance_gives_is_what_permuted_groups_give():
    """An independent reference: the same rows, groups dealt to whole persons again."""
    judged, groups = groups_of([0.8] * 7, 60, seed=1, photos=5)
    found = compute_gaps(judged, groups, resamples=1_000, seed=0)
    rng = np.random.default_rng(0)
    of_person = groups[::5]
    right, permuted = (judged.labels == judged.predictions).astype(float), []
    for _ in range(500):
        dealt = np.repeat(rng.permutation(of_person), 5)
        permuted.append(np.ptp([right[dealt == name].mean() for name in NAMES]))
    assert found["accuracy"].by_chance == pytest.approx(np.mean(permuted), rel=0.15)
    apart = JudgedRows(**{**vars(judged), "clusters": None})
    by_row = compute_gaps(apart, groups, resamples=1_000, seed=0)["accuracy"].by_chance
    assert by_row < 0.7 * np.mean(permuted)  # taken as independent, chance would seem to explain less


@pytest.mark.parametrize("shares", [[0.9, 0.8, 0.7], [0.95] * 6 + [0.75]])
def test_the_interval_of_a_true_gap_holds_it(shares):
    wanted = max(shares) - min(shares)
    found = [compute_gaps(*groups_of(shares, 400, seed=seed), resamples=200, seed=0)["accuracy"] for seed in range(150)]
    assert np.mean([gap.interval.low <= wanted <= gap.interval.high for gap in found]) >= 0.93
    assert np.mean([gap.verdict == "beyond chance" for gap in found]) > 0.95


def test_a_small_group_without_a_fault_is_not_known_exactly():
    judged, groups = groups_of([1.0, 1.0], 30, seed=0)
    gap = compute_gaps(judged, groups, resamples=100, seed=0)["accuracy"]
    assert gap.value == 0
    assert 0.05 < gap.interval.high < 0.2
    assert gap.verdict == "within chance"


@pytest.mark.parametrize(
    ("judged", "figures"),
    [
        (
            judged_rows.binary(300),
            {"accuracy": accuracy_score, "precision": precision_score, "recall": recall_score, "f1": f1_score},
        ),
        (judged_rows.binary(300, seed=2), {"selection_rate": selection_rate}),
        (
            judged_rows.multiclass(300),
            {
                "balanced_accuracy": balanced_accuracy_score,
                "macro_f1": lambda y, said: f1_score(y, said, average="macro"),
            },
        ),
        (judged_rows.ages(300, ranges=0.0), {"mae": lambda y, said: np.abs(y - said).mean()}),
        (judged_rows.persons(300), {"top1": accuracy_score}),
    ],
    ids=lambda each: getattr(getattr(each, "attribute", None), "name", ""),
)
def test_gaps_are_fairlearns_differences(judged, figures):
    groups = NAMES[np.arange(300) % 3]
    labels = judged.labels[:, 0] if judged.labels.ndim == 2 else judged.labels
    (table,) = compute_group_tables(judged, {"by": groups}, min_rows=1, resamples=100, seed=0)
    frame = MetricFrame(metrics=figures, y_true=labels, y_pred=judged.predictions, sensitive_features=groups)
    for name, wanted in frame.difference().items():
        assert table.gaps[name].value == pytest.approx(wanted), name
        assert table.gaps[name].by_chance > 0
    assert set(table.gaps) == set(table.figures)


def test_groups_that_do_not_count_have_no_gap():
    judged, groups = groups_of([0.9, 0.5], 40, seed=0)
    groups[groups == "g1"] = "unknown"
    (table,) = compute_group_tables(judged, {"by": groups}, min_rows=10, resamples=100, seed=0)
    assert np.isnan(table.gaps["accuracy"].value)
    assert table.gaps["accuracy"].verdict == ""
    # Crossed with another attribute they are no group either.
    *_, crossed = compute_group_tables(
        judged, {"by": groups, "all": np.full(80, "x", object)}, min_rows=10, resamples=100, seed=0
    )
    assert "unknown x x" in crossed.groups
    assert np.isnan(crossed.gaps["accuracy"].value)


def test_a_group_of_one_person_is_small_however_many_photos_it_has():
    judged, groups = groups_of([0.9, 0.9, 0.9], 60, seed=0, photos=5)
    one = np.where(np.arange(180) >= 120, 10_000, judged.clusters)  # all of g2 are one person's
    judged = JudgedRows(**{**vars(judged), "clusters": one})
    (table,) = compute_group_tables(judged, {"by": groups}, min_rows=30, resamples=100, seed=0)
    assert table.small.tolist() == [False, False, True]
    accuracy = table.values[:2, table.figures.index("accuracy")]
    assert table.gaps["accuracy"].value == pytest.approx(abs(accuracy[0] - accuracy[1]))
    assert (table.resampling.num_clusters, table.resampling.num_rows) == (24, 120)
