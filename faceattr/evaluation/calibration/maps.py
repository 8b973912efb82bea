"""Scores that mean what they say: of the faces scored 0.8, eight in ten have the attribute.

Fitted on validation rows, stored in the model as JSON, and applied by `faceattr.evaluation.scores`:

    {"method": "temperature", "temperature": T, ...}          keeps the order of scores, one number
    {"method": "isotonic", "curves": [{"x": [...], "y": [...]}], ...}   any rising curve, needs more rows

Both are the parts of scikit-learn's CalibratedClassifierCV: the temperature of least log loss, and IsotonicRegression
(of several classes, one curve each, divided by their sum).
"""

from typing import Any, Literal

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import log_loss

from faceattr.evaluation.judged import JudgedRows

Method = Literal["temperature", "isotonic", "none"]
FittedMethod = Literal["temperature", "isotonic"]
CALIBRATION_BINS = 15
MIN_ROWS = 20
"""Fewer rows, or fewer than two of a kind, calibrate nothing."""
MIN_ISOTONIC_ROWS = 200
"""Fewer rows than that overfit a curve; a temperature is fitted instead."""
# A temperature outside says that the rows are separated without a fault or scored at random, not how sure to be.
_TEMPERATURES = (0.05, 20.0)


def compute_ece(right: np.ndarray, scores: np.ndarray, num_bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error: mean over rows of |share that is right - mean score| in the row's bin of scores.

    Args:
        right: bool [n]; of a binary attribute whether the label is yes, else whether the likeliest class is right.
        scores: float [n] in [0, 1]; P(yes), or the score of the likeliest class.
        num_bins: of equal width.
    """
    if not len(scores):
        return float("nan")
    bins = place_in_bins(scores, num_bins)
    gaps = np.bincount(bins, weights=right.astype(np.float64) - scores, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(scores))


def place_in_bins(scores: np.ndarray, num_bins: int = CALIBRATION_BINS) -> np.ndarray:
    """int64 [n]: the bin of each score; 1 is in the last."""
    return np.minimum((scores * num_bins).astype(np.int64), num_bins - 1)


def choose_method(judged: JudgedRows, method: Method) -> FittedMethod | None:
    """What can be fitted on these rows, or None where there is nothing to fit or too few rows.

    `isotonic` falls back to a temperature under 200 rows; ages and identities are not calibrated.
    """
    counts = np.bincount(judged.labels, minlength=2) if judged.attribute.has_class_scores else np.zeros(1)
    if method == "none" or len(judged) < MIN_ROWS or (counts > 1).sum() < 2:
        return None
    return "isotonic" if method == "isotonic" and len(judged) >= MIN_ISOTONIC_ROWS else "temperature"


def fit_settings(judged: JudgedRows, method: FittedMethod) -> dict[str, Any]:
    """JSON settings for `faceattr.evaluation.scores`, with the number of rows.

    Args:
        judged: rows, with the model's outputs, that must not be judged by the settings.
        method: of `choose_method`.
    """
    logits = judged.outputs.astype(np.float64)
    if judged.attribute.is_yes_no:
        logits = np.stack([np.zeros_like(logits), logits], 1)
    if method == "isotonic":
        return {"method": "isotonic", "curves": _fit_curves(judged, _softmax(logits)), "num_rows": len(judged)}
    return {"method": "temperature", "temperature": _fit_temperature(logits, judged.labels), "num_rows": len(judged)}


def _fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    classes = range(logits.shape[1])
    low, high = np.log(_TEMPERATURES)

    def loss(log_temperature: float) -> float:
        return float(log_loss(labels, _softmax(logits / np.exp(log_temperature)), labels=classes))

    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def _fit_curves(judged: JudgedRows, scores: np.ndarray) -> list[dict[str, list[float]]]:
    classes = [1] if judged.attribute.is_yes_no else range(scores.shape[1])
    # By the rule of succession: that none of n rows had the class does not say that none ever has, and a score of 0
    # that is wrong once has an infinite log loss.
    least = 1 / (len(judged) + 2)
    curves = []
    for index in classes:
        # float32, as the model's scores are, so that knots stay apart.
        of_class = scores[:, index].astype(np.float32).astype(np.float64)
        regression = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip")
        fitted = regression.fit(of_class, judged.labels == index)
        x, y = fitted.X_thresholds_.astype(np.float32), np.maximum.accumulate(fitted.y_thresholds_)
        kept = np.concatenate([[True], np.diff(x) > 0])
        curves.append({"x": x[kept].astype(float).tolist(), "y": y[kept].tolist()})
    return curves


def _softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(weights / weights.sum(1, keepdims=True))
