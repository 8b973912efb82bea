"""Intervals of 95 %: of a share of rows, and from draws of the bootstrap.

Wilson's interval, unlike the bootstrap's, is not of no width where no row is wrong, and covers with few rows. Under
clustering n is the effective sample size p (1 - p) / var(p), at most the number of rows, with the variance of a ratio
between clusters, and z is Student's t of G - 1 degrees of freedom (Korn & Graubard 1998, Survey Methodology 24; Franco,
Little, Louis & Slud 2019, Journal of Survey Statistics and Methodology 7). Where all rows are right, or none, nothing
says how alike the rows of a cluster are; n is then the number of clusters.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t

from faceattr.evaluation.uncertainty.clusters import number_clusters

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """What a figure lies in with 95 % confidence; NaN where that is not known."""

    low: float
    high: float


NO_INTERVAL = Interval(float("nan"), float("nan"))


def wilson_interval(right: np.ndarray, clusters: np.ndarray | None = None) -> Interval:
    """The interval of the share of rows that are right; see the module.

    Args:
        right: bool [n].
        clusters: int64 [n]; None where rows are independent.

    Returns:
        NaN without rows, or where all rows are one cluster: it says nothing of others.
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
    # The ends of all right and of none, exactly.
    return Interval(
        0.0 if share == 0 else float(max(0.0, middle - half)), 1.0 if share == 1 else float(min(1.0, middle + half))
    )


def percentile_interval(draws: np.ndarray, num_units: int) -> Interval:
    """Expanded percentiles of draws [B] of the bootstrap (Hesterberg 2015, The American Statistician 69).

    Where few units were drawn, plain percentiles 2.5 and 97.5 are as narrow as an interval by the normal quantile and a
    variance without Bessel's correction; of many units these are the same.

    Args:
        draws: those that are not defined, NaN, are left out.
        num_units: clusters or rows that were resampled; of a single one nothing is known.
    """
    if num_units < 2:
        return NO_INTERVAL
    defined = draws[~np.isnan(draws)]
    if not len(defined):
        return NO_INTERVAL
    quantile = t.ppf((1 + LEVEL) / 2, num_units - 1) * (num_units / (num_units - 1)) ** 0.5
    low, high = np.quantile(defined, norm.cdf([-quantile, quantile]))
    return Interval(float(low), float(high))
