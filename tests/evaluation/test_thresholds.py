import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score, precision_score, recall_score

from faceattr.config.evaluate import Criterion
from faceattr.errors import ConfigError, RunError
from faceattr.evaluation.thresholds import choose_threshold, criterion_value, cross_fit

CRITERIA = [
    Criterion(name="f1"),
    Criterion(name="balanced_accuracy"),
    Criterion(name="youden"),
    Criterion(name="precision_at_recall", min_recall=0.8),
    Criterion(name="cost", cost_false_positive=1.0, cost_false_negative=5.0),
]


def by_sklearn(labels, said, criterion):
    recall = recall_score(labels, said)
    match criterion.name:
        case "f1":
            return f1_score(labels, said)
        case "balanced_accuracy":
            return balanced_accuracy_score(labels, said)
        case "youden":
            return recall + recall_score(1 - labels, ~said) - 1
        case "precision_at_recall":
            return precision_score(labels, said, zero_division=0) * min(1, recall / criterion.min_recall)
        case "cost":
            false_yes, false_no = (said & (labels == 0)).sum(), (~said & (labels == 1)).sum()
            return -(criterion.cost_false_positive * false_yes + criterion.cost_false_negative * false_no) / len(labels)


# Few different scores, so that many are equal, and some are neighbours in float32.
SCORES = st.sampled_from([0.0, 0.1, np.nextafter(np.float32(0.1), np.float32(1)), 0.5, 0.75, 0.9, 1.0])
ROWS = st.lists(st.tuples(st.integers(0, 1), SCORES), min_size=2, max_size=30).filter(
    lambda rows: len({label for label, _ in rows}) == 2
)


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda each: each.name)
@given(rows=ROWS)
@settings(max_examples=60, deadline=None)
def test_no_cut_is_better_than_the_chosen_one(criterion, rows):
    labels = np.array([label for label, _ in rows])
    scores = np.array([score for _, score in rows], np.float32)
    threshold = choose_threshold(labels, scores, criterion)
    assert 0 <= threshold <= 1
    said = scores.astype(np.float64) >= threshold
    # The same rows are cut in float32, in which a model computes.
    np.testing.assert_array_equal(scores >= np.float32(threshold), said)
    found = criterion_value(labels, scores, threshold, criterion)
    assert found == pytest.approx(by_sklearn(labels, said, criterion))
    cuts = [scores >= cut for cut in np.unique(scores)] + ([scores > 1] if scores.max() < 1 else [])
    if criterion.name == "precision_at_recall":
        assert recall_score(labels, said) >= criterion.min_recall
        cuts = [cut for cut in cuts if recall_score(labels, cut) >= criterion.min_recall]
    assert found == pytest.approx(max(by_sklearn(labels, cut, criterion) for cut in cuts))


def test_values_by_hand():
    labels = np.array([0, 0, 1, 0, 1, 1])
    scores = np.array([0.1, 0.2, 0.3, 0.6, 0.7, 0.8])
    # At 0.25: 3 of 3 found, 1 of 3 wrong. At 0.65: 2 of 3 found, none wrong.
    assert criterion_value(labels, scores, 0.25, Criterion(name="f1")) == pytest.approx(6 / 7)
    assert criterion_value(labels, scores, 0.65, Criterion(name="f1")) == pytest.approx(4 / 5)
    assert choose_threshold(labels, scores, Criterion(name="f1")) == pytest.approx(0.25)
    # Both have a balanced accuracy of 5/6; 0.65 is nearer to 0.5.
    assert choose_threshold(labels, scores, Criterion(name="balanced_accuracy")) == pytest.approx(0.65)
    dear = Criterion(name="cost", cost_false_positive=10, cost_false_negative=1)
    assert choose_threshold(labels, scores, dear) == pytest.approx(0.65)
    assert criterion_value(labels, scores, 0.65, dear) == pytest.approx(-1 / 6)
    assert criterion_value(labels, scores, 0.25, dear) == pytest.approx(-10 / 6)
    at_recall = Criterion(name="precision_at_recall", min_recall=0.9)
    assert choose_threshold(labels, scores, at_recall) == pytest.approx(0.25)
    # Precision 1, but recall 2/3 instead of 0.9.
    assert criterion_value(labels, scores, 0.65, at_recall) == pytest.approx(2 / 3 / 0.9)


def test_saying_no_to_all_and_yes_to_all_are_possible():
    labels, scores = np.array([1, 0, 0, 0]), np.array([0.2, 0.4, 0.6, 0.8])
    dear_yes = Criterion(name="cost", cost_false_positive=9, cost_false_negative=1)
    assert choose_threshold(labels, scores, dear_yes) == pytest.approx(0.9)
    dear_no = Criterion(name="cost", cost_false_positive=0.1, cost_false_negative=1)
    assert choose_threshold(labels, scores, dear_no) == pytest.approx(0.1)


def test_neighbours_in_float32_are_kept_apart():
    low = np.float32(0.3)
    high = np.nextafter(low, np.float32(1))
    labels = np.array([0, 1])
    threshold = choose_threshold(labels, np.array([low, high]), Criterion())
    assert np.float32(threshold) == high


def test_cross_fitting_judges_no_row_by_a_threshold_that_it_chose():
    # Labels without any relation to the scores: a threshold that is judged on its own rows flatters itself.
    rng = np.random.default_rng(0)
    criterion = Criterion(name="balanced_accuracy")
    own, crossed = [], []
    for seed in range(200):
        labels, scores = rng.permutation(np.repeat([0, 1], 20)), rng.random(40)
        own.append(criterion_value(labels, scores, choose_threshold(labels, scores, criterion), criterion))
        crossed.append(cross_fit(labels, scores, criterion, seed).value)
    assert np.mean(own) > 0.58
    assert np.mean(crossed) == pytest.approx(0.5, abs=0.015)


def test_cross_fitting_by_hand():
    # Two rows of each label: a half is one no and one yes, the halves are the same numbers, so both choose 0.5.
    labels = np.array([0, 1, 0, 1])
    scores = np.array([0.4, 0.6, 0.4, 0.6])
    found = cross_fit(labels, scores, Criterion(), seed=3)
    assert (found.value, found.threshold) == (1.0, 0.5)
    assert cross_fit(labels, scores, Criterion(), seed=3) == found


def test_the_order_of_the_rows_does_not_matter():
    rng = np.random.default_rng(1)
    labels, scores = rng.integers(0, 2, 50), rng.random(50).round(1)
    order = rng.permutation(50)
    assert cross_fit(labels[order], scores[order], Criterion(), seed=1) == cross_fit(
        labels, scores, Criterion(), seed=1
    )


def test_what_cannot_be_judged_is_refused():
    scores = np.array([0.1, 0.9, 0.5])
    with pytest.raises(RunError, match="3 yes and 0 no"):
        choose_threshold(np.ones(3, int), scores, Criterion())
    with pytest.raises(RunError, match="at least 2 of each; found 1 yes and 2 no"):
        cross_fit(np.array([0, 1, 0]), scores, Criterion(), seed=0)
    with pytest.raises(RunError, match="from 0 to 1"):
        choose_threshold(np.array([0, 1, 0]), np.array([0.1, np.nan, 0.5]), Criterion())
    with pytest.raises(ValueError, match="labels 0 or 1"):
        choose_threshold(np.array([0, 1, -1]), scores, Criterion())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"name": "f2"}, "f2.*expected one of f1"),
        ({"min_recall": 0.0}, "min_recall is 0.0"),
        ({"cost_false_positive": -1.0}, "costs"),
        ({"cost_false_positive": 0.0, "cost_false_negative": 0.0}, "above 0"),
    ],
)
def test_impossible_criteria(values, words):
    with pytest.raises(ConfigError, match=words):
        Criterion(**values)
