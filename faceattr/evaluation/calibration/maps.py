"""Calibration maps from scores to probabilities: of the faces scored 0.8, eight in ten have the attribute.

Fitted on validation rows, stored in the model as JSON, and applied by `faceattr.evaluation.scores`:

    {"method": "temperature", "temperature": T, ...}          keeps the order of scores; one parameter
    {"method": "isotonic", "curves": [{"x": [...], "y": [...]}], ...}   any increasing curve; needs more rows

Both are the parts of scikit-learn's CalibratedClassifierCV: the temperature with the lowest log loss, and
IsotonicRegression (for several classes one curve per class, divided by their sum).
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
"""With fewer rows, or fewer than two rows of a class, nothing is calibrated."""
MIN_ISOTONIC_ROWS = 200
"""With fewer rows a curve would overfit, and a temperature is fitted instead."""
# A temperature out of this range means perfectly separated rows or random scores; it does not measure confidence.
_TEMPERATURES = (0.05, 20.0)


def compute_ece(right: np.ndarray, scores: np.ndarray, num_bins: int = CALIBRATION_BINS) -> float:
    """Returns the expected calibration error: the mean over rows of |share correct - mean score| in the row's bin.

    Args:
        right: bool [n]; for a binary attribute whether the label is positive, else whether the top class is correct.
        scores: float [n] in [0, 1]; P(yes), or the score of the top class.
        num_bins: number of bins of equal width.
    """
    if not len(scores):
        return float("nan")
    bins = place_in_bins(scores, num_bins)
    gaps = np.bincount(bins, weights=right.astype(np.float64) - scores, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(scores))


def place_in_bins(scores: np.ndarray, num_bins: int = CALIBRATION_BINS) -> np.ndarray:
    """Returns the bin index of each score, int64 [n]; a score of 1 is in the last bin."""
    return np.minimum((scores * num_bins).astype(np.int64), num_bins - 1)


def choose_method(judged: JudgedRows, method: Method) -> FittedMethod | None:
    """Returns the method that can be fitted on these rows, or None if there is nothing to fit or too few rows.

    `isotonic` falls back to a temperature below 200 rows; ages and identities are not calibrated.
    """
    counts = np.bincount(judged.labels, minlength=2) if judged.attribute.has_class_scores else np.zeros(1)
    if method == "none" or len(judged) < MIN_ROWS or (counts > 1).sum() < 2:
        return None
    return "isotonic" if method == "isotonic" and len(judged) >= MIN_ISOTONIC_ROWS else "temperature"


def fit_settings(judged: JudgedRows, method: FittedMethod) -> dict[str, Any]:
    """Fits JSON settings for `faceattr.evaluation.scores`, which include the number of rows.

    Args:
        judged: rows with the model's outputs; these rows must not be evaluated with the fitted settings.
        method: result of `choose_method`.
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
    # Rule of succession: that none of n rows has the class does not prove that it never occurs, and a score of 0 that
    # is wrong once has an infinite log loss.
    least = 1 / (len(judged) + 2)
    curves = []
    for index in classes:
        # float32 as the model's scores, so that knots stay distinct.
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
