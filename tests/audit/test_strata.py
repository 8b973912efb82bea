import numpy as np
import pytest

from faceattr.audit.strata import ScoreHistogram, expected_share, find_stratum, plan_strata


def histogram(scores, threshold=0.5):
    found = ScoreHistogram(threshold)
    found.add(np.asarray(scores, np.float32))
    return found


def test_bins_hold_every_score_and_none_crosses_the_threshold():
    found = histogram([0.0, 0.1, 0.299, 0.3, 0.301, 0.99, 1.0], threshold=0.3)
    assert found.counts.sum() == 7
    below = found.counts[found.edges[:-1] < 0.3].sum()
    assert below == 3  # 0.3 as float32 is above 0.3
    assert 0.3 in found.edges


def test_the_score_stands_in_for_the_share_with_the_threshold_moved_to_a_half():
    # Odds 1/3 at threshold 0.25 (odds 1/3) are even; 0.5 has odds 1 / (1/3) = 3, a share of 3/4.
    assert expected_share(np.array([0.25, 0.5]), 0.25) == pytest.approx([0.5, 0.75])
    assert expected_share(np.array([0.0, 1.0]), 0.5) == pytest.approx([0.001, 0.95])


def test_strata_cover_all_scores_and_both_sides_get_half_of_the_draws():
    scores = np.random.default_rng(0).beta(0.3, 3.0, 5_000)
    found = histogram(scores)
    plan = plan_strata(found, 120)
    assert plan.edges[0] == 0
    assert plan.edges[-1] == 1
    assert (np.diff(plan.edges) > 0).all()
    assert 0.5 in plan.edges
    assert np.bincount(find_stratum(scores.astype(np.float32), plan.edges), minlength=len(plan.num_rows)).tolist() == (
        plan.num_rows.tolist()
    )
    cut = plan.edges.tolist().index(0.5)
    assert plan.num_draws[:cut].sum() == 60
    assert plan.num_draws[cut:].sum() == 60


def test_each_stratum_of_a_side_weighs_the_same():
    # 600 rows at 0.1 weigh sqrt(.1 * .9) = .3 each, 200 rows at .4 weigh .49: 180 and 98; in two strata the cut falls
    # between the two scores, the nearest to 139.
    plan = plan_strata(histogram([0.1] * 600 + [0.4] * 200 + [0.9] * 100), 60)
    assert plan.num_rows.tolist() == [600, 200, 100]
    assert plan.num_draws.tolist() == [15, 15, 30]


def test_a_side_with_few_rows_is_judged_whole_and_the_rest_goes_to_the_other():
    plan = plan_strata(histogram([0.1] * 500 + [0.9] * 7), 100)
    assert plan.num_rows.tolist()[-1] == 7
    assert plan.num_draws.tolist()[-1] == 7
    assert plan.num_draws.sum() == 100


def test_a_table_smaller_than_the_sample_is_judged_whole():
    plan = plan_strata(histogram([0.2, 0.3, 0.8]), 100)
    assert plan.num_draws.tolist() == plan.num_rows.tolist()
    assert plan.num_draws.sum() == 3


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_a_threshold_at_an_end_leaves_one_side(threshold):
    plan = plan_strata(histogram([0.1, 0.2, 0.9], threshold), 10)
    assert plan.num_rows.sum() == 3
