"""95 % intervals: Wilson's for a share of rows, and percentiles of bootstrap draws.

Unlike the bootstrap's, Wilson's interval has a positive width even if no row is wrong, and covers well with few rows.
With clusters, n is the effective sample size p (1 - p) / var(p), at most the number of rows, where var(p) is the
variance of a ratio between clusters, and z is a quantile of Student's t with G - 1 degrees of freedom for G clusters
(Korn & Graubard 1998, Survey Methodology 24; Franco, Little, Louis & Slud 2019, Journal of Survey Statistics and
Methodology 7). If all rows are right, or none, the similarity of rows within a cluster cannot be estimated; n is then
the number of clusters.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t

from faceattr.evaluation.uncertainty.clusters import number_clusters

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """Interval that contains the figure with 95 % confidence; NaN if unknown."""

    low: float
    high: float


NO_INTERVAL = Interval(float("nan"), float("nan"))


def wilson_interval(right: np.ndarray, clusters: np.ndarray | None = None) -> Interval:
    """Computes the Wilson interval of the share of rows that are right; see the module docstring.

    Args:
        right: bool [n].
        clusters: int64 [n]; None if rows are independent.

    Returns:
        The interval; NaN without rows, or if all rows are in one cluster, which says nothing about others.
    """
    n = len(right)
    if not n:
        return NO_INTERVAL
    share = float(right.mean())
    size, quantile = float(n), float(norm.ppf((1 + LEVEL) / 2))
    if clusters is not None:
        numbers = number_clusters(clusters, n)
        off = np.bincount(numbers, weights=right - share)
        num = len(off)
        if num < 2:
            return NO_INTERVAL
        if num < n:
            quantile = float(t.ppf((1 + LEVEL) / 2, num - 1))
            variance = num / (num - 1) * float(off @ off) / n**2
            size = min(size, share * (1 - share) / variance) if 0 < share < 1 and variance > 0 else size
            size = size if 0 < share < 1 else float(num)
    middle = (share + quantile**2 / (2 * size)) / (1 + quantile**2 / size)
    half = quantile / (1 + quantile**2 / size) * np.sqrt(share * (1 - share) / size + quantile**2 / (4 * size**2))
    # If all rows or none are right, the ends are exactly 1 or 0.
    return Interval(
        0.0 if share == 0 else float(max(0.0, middle - half)), 1.0 if share == 1 else float(min(1.0, middle + half))
    )


def percentile_interval(draws: np.ndarray, num_units: int) -> Interval:
    """Computes expanded percentiles of bootstrap draws [B] (Hesterberg 2015, The American Statistician 69).

    With few units the plain percentiles 2.5 and 97.5 are as narrow as an interval with the normal quantile and a
    variance without Bessel's correction; with many units both methods agree.

    Args:
        draws: draws of the figure; undefined draws (NaN) are ignored.
        num_units: number of resampled clusters or rows; with a single one the interval is NaN.
    """
    if num_units < 2:
        return NO_INTERVAL
    defined = draws[~np.isnan(draws)]
    if not len(defined):
        return NO_INTERVAL
    quantile = t.ppf((1 + LEVEL) / 2, num_units - 1) * (num_units / (num_units - 1)) ** 0.5
    low, high = np.quantile(defined, norm.cdf([-quantile, quantile]))
    return Interval(float(low), float(high))
