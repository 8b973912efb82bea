"""Log loss per row: a proper score, whose mean is smallest if the scores are the true probabilities."""

import numpy as np

_LEAST = np.finfo(np.float64).eps


def compute_log_losses(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns float64 [n]: the negative natural logarithm of the true class's score, clipped to at least 2.2e-16.

    Their mean is scikit-learn's `log_loss`.

    Args:
        labels: int64 [n], class indices.
        scores: float64 [n], the score of class 1 of two, or [n, C].
    """
    if scores.ndim == 1:
        own = np.where(labels == 1, scores, 1 - scores)
    else:
        own = np.take_along_axis(scores, labels[:, None], 1)[:, 0]
    return np.asarray(-np.log(np.clip(own.astype(np.float64), _LEAST, 1 - _LEAST)))
