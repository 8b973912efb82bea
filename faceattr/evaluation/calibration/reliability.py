"""Reliability curve: the share of correct rows as a function of the score, and its distance from the diagonal.

Bins contain about equally many rows (adaptive bins; Nguyen & O'Connor 2015, EMNLP), at least 20, and never separate
equal scores: bins are narrow where scores are dense, and none depends on a single image.

`calibration_error` is the square root of the mean squared gap over bins, debiased: the square of a gap of pure noise
is not 0 but its variance, which is subtracted (Bröcker 2012, Climate Dynamics 39; Kumar, Liang & Ma 2019, "Verified
uncertainty calibration", NeurIPS). For calibrated scores its expectation is 0 before the square root is taken. Like
every binned measure it does not see gaps that cancel within a bin.

The usual `ece` (`calibration.compute_ece`) keeps its noise: for calibrated scores it falls as 1 / sqrt(rows) and is
never 0, and each bootstrap draw adds the noise once more. It is given for comparison with published figures, without
an interval.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.stats import norm

from faceattr.evaluation.judged import JudgedRows
from faceattr.evaluation.uncertainty.clusters import number_clusters
from faceattr.evaluation.uncertainty.intervals import LEVEL, NO_INTERVAL, Interval, wilson_interval

MAX_BINS = 15
MIN_BIN_ROWS = 20


@dataclass(frozen=True)
class ReliabilityCurve:
    """One entry per bin, in increasing order of scores.

    Attributes:
        score: float64 [bins], mean score.
        share: float64 [bins], share of correct rows.
        low: float64 [bins], lower end of the share's Wilson interval; NaN if unknown.
        high: float64 [bins], upper end.
        count: int64 [bins], number of rows.
    """

    score: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    count: np.ndarray


def read_confidence(judged: JudgedRows) -> tuple[np.ndarray, np.ndarray]:
    """Returns whether each row is correct, bool [n], and the score that claims it, float64 [n].

    For a binary attribute these are the label and P(yes), else whether the top class is correct and its score.
    """
    if judged.attribute.is_yes_no:
        return judged.labels == 1, judged.scores
    return judged.labels == judged.scores.argmax(1), judged.scores.max(1)


def place_in_equal_bins(scores: np.ndarray) -> np.ndarray:
    """Returns the bin index of each score, int64 [n], from 0; the module docstring defines the bins."""
    distinct, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    wanted = max(MIN_BIN_ROWS, -(-len(scores) // MAX_BINS))
    reached = np.cumsum(counts)
    starts = [0]
    while True:
        before = reached[starts[-1] - 1] if starts[-1] else 0
        following = int(np.searchsorted(reached, before + wanted)) + 1
        # The remaining rows must fill a bin of their own; otherwise they join this one.
        if following >= len(distinct) or len(scores) - reached[following - 1] < max(MIN_BIN_ROWS, wanted // 2):
            break
        starts.append(following)
    return np.asarray(np.searchsorted(starts, places.reshape(-1), side="right") - 1)


def compute_reliability(right: np.ndarray, scores: np.ndarray, clusters: np.ndarray | None) -> ReliabilityCurve:
    """Computes the reliability curve; for the arguments see `compute_calibration_error`."""
    bins = place_in_equal_bins(scores)
    count = np.bincount(bins)
    each = [bins == place for place in range(len(count))]
    bands = [wilson_interval(right[mine], None if clusters is None else clusters[mine]) for mine in each]
    return ReliabilityCurve(
        score=np.bincount(bins, weights=scores) / count,
        share=np.bincount(bins, weights=right) / count,
        low=np.array([band.low for band in bands]),
        high=np.array([band.high for band in bands]),
        count=count,
    )


def compute_calibration_error(
    right: np.ndarray, scores: np.ndarray, clusters: np.ndarray | None
) -> tuple[float, Interval]:
    """Computes the debiased error and its 95 % interval.

    For gaps g with covariance V and weights W = diag(share of rows), the squared error g'Wg - tr(WV) has the variance
    4 g'WVWg + 2 tr(WVWV) at the true g. At the observed g the first term is too large by 4 tr(WVWV) in the mean, which
    leaves 4 g'WVWg - 2 tr(WVWV).

    Args:
        right: bool [n]; see `read_confidence`.
        scores: float [n] in [0, 1].
        clusters: int64 [n]; None if rows are independent.

    Returns:
        Error and interval; both NaN without rows, and the interval also NaN if a bin contains only one cluster.
    """
    if not len(scores):
        return float("nan"), NO_INTERVAL
    bins = place_in_equal_bins(scores)
    count = np.bincount(bins)
    off = right - scores
    gaps = np.bincount(bins, weights=off) / count
    covariance = _covariance(off - gaps[bins], bins, clusters)
    if covariance is None:
        return float(np.sqrt((gaps**2 * count).sum() / len(scores))), NO_INTERVAL
    weights = count / len(scores)
    weighted = covariance * weights[:, None]
    squared = float((weights * gaps**2).sum() - np.trace(weighted))
    noise = float(np.trace(weighted @ weighted))
    variance = max(4 * float((weights * gaps) @ covariance @ (weights * gaps)) - 2 * noise, 2 * noise)
    half = float(norm.ppf((1 + LEVEL) / 2)) * variance**0.5
    low, value, high = (max(0.0, each) ** 0.5 for each in (squared - half, squared, squared + half))
    return value, Interval(low, high)


def _covariance(off: np.ndarray, bins: np.ndarray, clusters: np.ndarray | None) -> np.ndarray | None:
    """Returns the covariance of the bins' mean gaps, between clusters, [bins, bins]; None if a bin has one cluster."""
    num = int(bins.max()) + 1
    numbers = number_clusters(clusters, len(off))
    keys, place = np.unique(numbers * num + bins, return_inverse=True)
    sums = np.bincount(place.reshape(-1), weights=off)
    present = np.bincount(keys % num, minlength=num)
    if (present < 2).any():
        return None
    by_cluster = csr_array((sums, (keys // num, keys % num)), shape=(int(numbers.max()) + 1, num))
    scale = np.sqrt(present / (present - 1)) / np.bincount(bins)
    return np.asarray((by_cluster.T @ by_cluster).toarray() * np.outer(scale, scale))
