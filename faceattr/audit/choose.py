"""Chooses thresholds from a few hundred judgements.

The criterion's value at each threshold, estimated from the judged rows alone, is a staircase with large steps, and its
best step is mostly luck. So a calibration map from score to probability is fitted first, to all judgements, weighted
by the rows that they stand for: Platt scaling, a logistic function of the score's log odds (Platt 1999), or an
isotonic curve. With it, the expected counts at every threshold follow from the scores of all rows.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from faceattr.audit.posterior import JudgedItems
from faceattr.config.evaluate import Criterion
from faceattr.data.runs.run_attributes import Decision
from faceattr.errors import RunError
from faceattr.evaluation.thresholds import criterion_values

MapMethod = Literal["platt", "isotonic"]
# Log odds of scores beyond these are not told apart, as in `faceattr.audit.strata`.
_MAX_LOGIT = 11.0


@dataclass(frozen=True, kw_only=True)
class CalibrationMap:
    """A map from scores to the probability that the attribute is there.

    Attributes:
        method: how it was fitted.
        x: float64 [k], log odds of scores, ascending; for `platt` the intercept and the slope.
        y: float64 [k], probabilities; empty for `platt`.
    """

    method: MapMethod
    x: np.ndarray
    y: np.ndarray

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Returns probabilities, float64 [n], of scores in [0, 1]."""
        logits = _log_odds(scores)
        if self.method == "isotonic":
            return np.interp(logits, self.x, self.y)
        intercept, slope = self.x
        return np.asarray(1 / (1 + np.exp(-(intercept + slope * logits))))

    def to_json(self) -> dict[str, Any]:
        """Returns the plain form; the map applies to natural logarithms of the odds of a score."""
        if self.method == "isotonic":
            return {"method": "isotonic", "log_odds": self.x.tolist(), "probability": self.y.tolist()}
        return {"method": "platt", "intercept": float(self.x[0]), "slope": float(self.x[1])}


def fit_map(items: JudgedItems, method: MapMethod) -> CalibrationMap:
    """Fits a calibration map to judged items.

    Raises:
        RunError: all items have the same answer.
    """
    if items.positive.all() or not items.positive.any():
        raise RunError("a calibration needs judged items of both kinds, yes and no; judge more of them")
    # Scaled so that they count as the judgements that they are, against the fit's regularisation.
    weights = items.weights * len(items.weights) / items.weights.sum()
    logits = _log_odds(items.score)
    if method == "isotonic":
        fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(logits, items.positive, weights)
        return CalibrationMap(method=method, x=fitted.X_thresholds_, y=fitted.y_thresholds_)
    regression = LogisticRegression(C=10.0).fit(logits[:, None], items.positive, sample_weight=weights)
    slope = float(regression.coef_[0, 0])
    if slope <= 0:
        raise RunError("scores and judgements do not rise together: rows with high scores are judged yes no more often")
    return CalibrationMap(method=method, x=np.array([regression.intercept_[0], slope]), y=np.empty(0))


def choose_decision(
    calibration: CalibrationMap,
    low: np.ndarray,
    high: np.ndarray,
    num_rows: np.ndarray,
    criterion: Criterion | Literal["prevalence"],
    *,
    sure: float | None = None,
) -> Decision:
    """Chooses the threshold with the best expected value of a criterion; among equals the one nearest to 0.5.

    Args:
        calibration: probability of each score.
        low: float64 [bins], lower ends of ranges of scores, ascending; these are the possible thresholds.
        high: float64 [bins], their upper ends.
        num_rows: int64 [bins], rows of the table in each.
        criterion: `prevalence` labels as many rows yes as there are positives.
        sure: least probability with which a label is right; scores between are labelled null. None: all are labelled.
    """
    share = calibration((low + high) / 2)
    positives, negatives = num_rows * share, num_rows * (1 - share)
    yes_right = np.cumsum(positives[::-1])[::-1]
    yes_wrong = np.cumsum(negatives[::-1])[::-1]
    if criterion == "prevalence":
        values = -np.abs(yes_right + yes_wrong - positives.sum())
    else:
        counts = np.stack([negatives.sum() - yes_wrong, yes_wrong, positives.sum() - yes_right, yes_right], 1)
        values = criterion_values(counts, criterion)
        if criterion.name == "precision_at_recall":
            values = np.where(yes_right / positives.sum() >= criterion.min_recall, values, -np.inf)
    best = np.flatnonzero(values >= values.max() - 1e-12)
    threshold = _round(float(low[best[np.abs(low[best] - 0.5).argmin()]]))
    return Decision(threshold=threshold, abstain=None if sure is None else _band(share, low, high, threshold, sure))


def _band(
    share: np.ndarray, low: np.ndarray, high: np.ndarray, threshold: float, sure: float
) -> tuple[float, float] | None:
    """Returns the scores around the threshold between which a label would be right with less than `sure`."""
    yes = low >= threshold
    doubtful = np.where(yes, share, 1 - share) < sure
    begins = low[~yes & doubtful].min(initial=threshold)
    ends = high[yes & doubtful].max(initial=threshold)
    return (_round(float(begins)), _round(float(ends))) if begins < ends else None


def _round(score: float) -> float:
    """Rounds to what a person writes: three digits of the score, or of its distance to 1."""
    distance = min(score, 1 - score)
    return score if distance <= 0 else round(score, 2 - math.floor(math.log10(distance)))


def _log_odds(scores: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.asarray(np.clip(np.log(scores) - np.log1p(-scores), -_MAX_LOGIT, _MAX_LOGIT))
