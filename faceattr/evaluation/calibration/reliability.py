"""Whether scores mean what they say: the curve of shares over scores, and how far it is from the diagonal.

Bins hold about equally many rows (adaptive bins; Nguyen & O'Connor 2015, EMNLP), at least 20, and never part equal
scores: where scores pile up, bins are narrow, and none rests on one image.

`calibration_error` is the root of the mean squared gap over bins, debiased: a gap of noise alone is not 0 when squared
but its variance, which is subtracted (Bröcker 2012, Climate Dynamics 39; Kumar, Liang & Ma 2019, "Verified uncertainty
calibration", NeurIPS). Of calibrated scores it is 0 in the mean before the root is taken. Like every binned measure it
does not see gaps that cancel within a bin.

The usual `ece` (`calibration.compute_ece`) keeps its noise: of calibrated scores it falls as 1 / sqrt(rows) and is
never 0, and each draw of a bootstrap adds the noise once more. It is given for comparison with published figures,
without an interval.
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
    """One entry a bin, in rising order of scores.

    Attributes:
        score: float64 [bins], mean score.
        share: float64 [bins], share of rows that are right.
        low: float64 [bins], of the share's Wilson interval; NaN where it is not known.
        high: the same.
        count: int64 [bins], rows.
    """

    score: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    count: np.ndarray


def read_confidence(judged: JudgedRows) -> tuple[np.ndarray, np.ndarray]:
    """What is right, bool [n], and the score that says how surely, float64 [n].

    Of a binary attribute whether the label is yes and P(yes), else whether the likeliest class is right and its score.
    """
    if judged.attribute.is_yes_no:
        return judged.labels == 1, judged.scores
    return judged.labels == judged.scores.argmax(1), judged.scores.max(1)


def place_in_equal_bins(scores: np.ndarray) -> np.ndarray:
    """int64 [n]: the bin of each score, from 0; see the module."""
    distinct, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    wanted = max(MIN_BIN_ROWS, -(-len(scores) // MAX_BINS))
    reached = np.cumsum(counts)
    starts = [0]
    while True:
        before = reached[starts[-1] - 1] if starts[-1] else 0
        following = int(np.searchsorted(reached, before + wanted)) + 1
        # What is left after the bin must fill one of its own, or joins it.
        if following >= len(distinct) or len(scores) - reached[following - 1] < max(MIN_BIN_ROWS, wanted // 2):
            break
        starts.append(following)
    return np.asarray(np.searchsorted(starts, places.reshape(-1), side="right") - 1)


def compute_reliability(right: np.ndarray, scores: np.ndarray, clusters: np.ndarray | None) -> ReliabilityCurve:
    """The curve; for the arguments see `compute_calibration_error`."""
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
    """The debiased error and its 95 % interval.

    With gaps g of covariance V and weights W = diag(share of rows), the squared error g'Wg - tr(WV) has the variance
    4 g'WVWg + 2 tr(WVWV) at the true g; with g as observed the latter is counted back once.

    Args:
        right: bool [n], see `read_confidence`.
        scores: float [n] in [0, 1].
        clusters: int64 [n]; None where rows are independent.

    Returns:
        NaN without rows, the interval NaN too where a bin is one cluster alone.
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
    """float64 [bins, bins] of the bins' mean gaps, between clusters; None where a bin is one cluster alone."""
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
