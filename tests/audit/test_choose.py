import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from faceattr.audit.choose import CalibrationMap, choose_decision, fit_map
from faceattr.audit.posterior import JudgedItems
from faceattr.config.evaluate import Criterion
from faceattr.errors import RunError
from tests.audit.audited_runs import draw_scores

LOW = np.array([0.0, 0.25, 0.5, 0.75])
HIGH = np.array([0.25, 0.5, 0.75, 1.0])
ROWS = np.array([100, 20, 20, 40])


def shares(*values):
    """A map that gives these probabilities in the middle of the four ranges."""
    middles = (LOW + HIGH) / 2
    return CalibrationMap(method="isotonic", x=np.log(middles / (1 - middles)), y=np.array(values))


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        # Yes from .25 on: tp 14 + 18 + 40 = 72, fp 8, fn 2: F1 144 / 154 = .935. From .5: 58, 2, 16: .866.
        (Criterion(name="f1"), 0.25),
        # Costs of false positives 10: from .25 on 8 * 10 + 2 = 82; from .5 2 * 10 + 16 = 36; from .75 0 + 34 = 34.
        (Criterion(name="cost", cost_false_positive=10), 0.75),
        # Recall of .5: from .75 on 40 / 74 = .54 at precision 1.
        (Criterion(name="precision_at_recall", min_recall=0.5), 0.75),
        (Criterion(name="precision_at_recall", min_recall=0.95), 0.25),
        # 74 positives; 80 rows from .25 on, 60 from .5 on.
        ("prevalence", 0.25),
    ],
)
def test_the_threshold_has_the_best_expected_value(criterion, expected):
    assert choose_decision(shares(0.02, 0.7, 0.9, 1.0), LOW, HIGH, ROWS, criterion).threshold == expected


def test_what_would_be_right_too_seldom_is_labelled_null():
    found = choose_decision(shares(0.02, 0.4, 0.8, 1.0), LOW, HIGH, ROWS, Criterion(), sure=0.9)
    # Yes from .25 on: tp 8 + 16 + 40 = 64, fp 16, fn 2: F1 128 / 146 = .877; from .5 on: 56, 4, 10: .889.
    assert found.threshold == 0.5
    assert found.abstain == (0.25, 0.75)
    assert choose_decision(shares(0.02, 0.02, 0.95, 1.0), LOW, HIGH, ROWS, Criterion(), sure=0.9).abstain is None


def judged(truth, scores):
    return JudgedItems(
        stratum=np.zeros(len(truth), int), positive=truth, score=scores, num_rows=np.array([len(truth)]), threshold=0.5
    )


def test_platt_scaling_is_a_logistic_regression_on_log_odds():
    truth, scores = draw_scores(400, share=0.4, seed=5, bias=-1.0)
    found = fit_map(judged(truth, scores.astype(float)), "platt")
    logits = np.log(scores.astype(float) / (1 - scores.astype(float)))[:, None]
    expected = LogisticRegression(C=10.0).fit(logits, truth).predict_proba(logits)[:, 1]
    np.testing.assert_allclose(found(scores.astype(float)), expected, atol=1e-6)
    # Log odds were shifted by -1, their slope for unit shift: 2 * 1.5 / 1.2 ** 2 = 2.08.
    assert found.x[1] == pytest.approx(2.08, abs=0.4)


def test_weights_move_the_map():
    scores = np.array([0.4, 0.4, 0.6, 0.6])
    positive = np.array([False, True, False, True])
    strata = JudgedItems(
        stratum=np.array([0, 1, 0, 1]), positive=positive, score=scores, num_rows=np.array([300, 100]), threshold=0.5
    )
    # Negatives stand for 150 rows each, positives for 50: a share of 1/4 at both scores.
    np.testing.assert_allclose(fit_map(strata, "isotonic")(np.array([0.4, 0.6])), [0.25, 0.25])


def test_judgements_that_decide_nothing_are_refused():
    with pytest.raises(RunError, match="both kinds"):
        fit_map(judged(np.array([True, True]), np.array([0.2, 0.8])), "platt")
    with pytest.raises(RunError, match="do not rise together"):
        fit_map(judged(np.array([True, True, False, False]), np.array([0.1, 0.2, 0.8, 0.9])), "platt")
