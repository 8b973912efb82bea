import numpy as np
import pytest
from scipy.stats import beta

from faceattr.audit.estimates import Estimate, count_labels, estimate_binary, estimate_f1_change
from faceattr.audit.posterior import JudgedItems, complete
from faceattr.audit.strata import ScoreHistogram, find_stratum, plan_strata
from faceattr.data.runs.run_attributes import Decision
from tests.audit.audited_runs import draw_scores


def items(stratum, positive, score, num_rows):
    return JudgedItems(
        stratum=np.array(stratum),
        positive=np.array(positive, bool),
        score=np.array(score, float),
        num_rows=np.array(num_rows),
        threshold=0.5,
    )


def test_estimates_count_each_item_as_the_rows_that_it_stands_for():
    # Below 0.5: 2 of 100 rows judged, one positive, so 50 positives are missed. Above: 4 of 20 judged, 3 positive, so
    # 15 of 20 are right. Precision 15/20, recall 15/65, F1 30/85, prevalence 65/120.
    judged = items([0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 1, 0], [0.1, 0.2, 0.9, 0.8, 0.7, 0.6], [100, 20])
    found = estimate_binary(judged, Decision(), seed=0)
    values = {name: each.value for name, each in found.items()}
    assert values == pytest.approx(
        {
            "precision": 15 / 20,
            "recall": 15 / 65,
            "f1": 30 / 85,
            "prevalence": 65 / 120,
        }
    )
    assert all(each.low <= each.value <= each.high for each in found.values())


def test_labels_are_counted_not_estimated():
    low, high = np.array([0.0, 0.2, 0.5, 0.8]), np.array([0.2, 0.5, 0.8, 1.0])
    rows = np.array([40, 30, 20, 10])
    found = count_labels(low, high, rows, Decision(threshold=0.5))
    assert found == {
        "labelled_yes": Estimate(value=0.3, low=0.3, high=0.3),
        "coverage": Estimate(value=1, low=1, high=1),
    }
    # No label between 0.2 and 0.8: 40 and 10 of 100 rows keep theirs, of which 10 are a yes.
    found = count_labels(low, high, rows, Decision(threshold=0.5, abstain=(0.2, 0.8)))
    assert [found[name].value for name in ("labelled_yes", "coverage")] == [0.1, 0.5]
    # A threshold of 0.6 divides the 20 rows from 0.5 to 0.8: 10 to 30 of 100.
    assert count_labels(low, high, rows, Decision(threshold=0.6))["labelled_yes"] == Estimate(
        value=0.2, low=0.1, high=0.3
    )


def test_the_change_of_f1_is_that_of_the_same_rows():
    # All rows are judged. From 0.5 on: 2 right, 1 missed, F1 4/5; from 0.1 on: 3 right, 1 wrong, F1 6/7.
    judged = items([0, 0, 1, 1], [1, 0, 1, 1], [0.2, 0.4, 0.6, 0.8], [2, 2])
    found = estimate_f1_change(judged, Decision(), Decision(threshold=0.1), seed=0)
    assert [found.value, found.low, found.high] == pytest.approx([6 / 7 - 4 / 5] * 3)
    # Below 0.5, 2 of 100 rows are judged: what is among the others is not known, and a threshold of 0.1 takes them all.
    judged = items([0, 0, 1, 1], [1, 0, 1, 1], [0.2, 0.4, 0.6, 0.8], [100, 2])
    found = estimate_f1_change(judged, Decision(), Decision(threshold=0.1), seed=0)
    assert found.value == pytest.approx(2 * 52 / (102 + 52) - 2 * 2 / (2 + 52))
    assert found.low < 0.2
    assert found.high > 0.7


def test_rows_in_the_abstain_band_have_no_label():
    judged = items([0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 1, 0], [0.1, 0.45, 0.9, 0.8, 0.7, 0.55], [100, 40])
    found = estimate_binary(judged, Decision(threshold=0.5, abstain=(0.4, 0.6)), seed=0)
    # Labelled: 50 rows at 0.1, all negative, and 30 from 0.7 on, all positive.
    assert found["precision"].value == 1
    assert found["recall"].value == 1
    assert found["prevalence"].value == pytest.approx(80 / 140)


def test_a_threshold_above_the_judged_scores_has_unknown_figures():
    judged = items([0, 0, 1, 1], [0, 1, 1, 0], [0.1, 0.45, 0.9, 0.55], [100, 20])
    found = estimate_binary(judged, Decision(threshold=0.7), seed=0)
    assert np.isnan([found[name].value for name in ("precision", "recall", "f1")]).all()
    assert found["prevalence"].value == pytest.approx(60 / 120)


def test_completed_tables_have_all_rows_and_the_judged_ones_unchanged():
    judged = items([0, 0, 1, 1], [0, 1, 1, 0], [0.1, 0.45, 0.9, 0.55], [100, 2])
    found = complete(judged, num_tables=50, seed=3)
    assert found.weights.sum(1).tolist() == [102] * 50
    assert (found.weights[:, :4] >= 1).all()
    assert (found.weights[:, 2:4] == 1).all()  # a stratum that was judged whole has nothing to complete
    assert np.array_equal(found.weights, np.round(found.weights))


def test_a_stratum_without_a_positive_may_still_hold_some():
    judged = items([0] * 40 + [1] * 10, [0] * 40 + [1] * 10, [0.1] * 40 + [0.9] * 10, [4_000, 100])
    recall = estimate_binary(judged, Decision(), seed=0)["recall"]
    assert recall.value == 1
    # Jeffreys' interval for 0 of 40 rows, whose upper end is that many misses among 4,000 rows, beside 100 hits.
    misses = 4_000 * beta.ppf(0.975, 0.5, 40.5)
    assert recall.low == pytest.approx(100 / (100 + misses), rel=0.1)


def covered(truth, scores, draws, repetitions):
    """How often the intervals of precision, recall, F1 and prevalence hold the truth."""
    histogram = ScoreHistogram(0.5)
    histogram.add(scores)
    plan = plan_strata(histogram, draws)
    stratum, said = find_stratum(scores, plan.edges), scores >= 0.5
    both = (truth & said).sum()
    exact = {
        "precision": both / said.sum(),
        "recall": both / truth.sum(),
        "f1": 2 * both / (said.sum() + truth.sum()),
        "prevalence": truth.mean(),
    }
    hits = dict.fromkeys(exact, 0)
    for seed in range(repetitions):
        generator = np.random.default_rng(seed)
        rows = np.concatenate(
            [
                generator.choice(np.flatnonzero(stratum == index), count, replace=False)
                for index, count in enumerate(plan.num_draws)
            ]
        )
        judged = items(stratum[rows], truth[rows], scores[rows], plan.num_rows)
        found = estimate_binary(judged, Decision(), seed=seed)
        for name, value in exact.items():
            hits[name] += found[name].low <= value <= found[name].high
    return {name: count / repetitions for name, count in hits.items()}


@pytest.mark.long
@pytest.mark.parametrize(
    ("share", "bias", "draws"), [(0.3, 0.0, 130), (0.02, -1.0, 130), (0.02, 0.0, 200), (0.5, -2.0, 130)]
)
def test_intervals_hold_the_truth_in_nine_of_ten_audits(share, bias, draws):
    truth, scores = draw_scores(10_000, share=share, seed=7, bias=bias)
    shares = covered(truth, scores, draws, 200)
    assert min(shares.values()) >= 0.9, shares


def test_intervals_hold_the_truth_in_most_audits_of_a_rare_attribute():
    truth, scores = draw_scores(5_000, share=0.02, seed=7, bias=-1.0)
    shares = covered(truth, scores, 100, 15)
    assert min(shares.values()) >= 12 / 15, shares
