"""The 95 % interval of every figure, by the method with the right coverage for it.

    shares of rows     Wilson's, with the effective number of rows: accuracy, precision, recall, top1, top5, within_5
    calibration_error  the normal interval of a debiased estimate, see `reliability.py`
    ece                none: it is biased upwards, and its bootstrap doubly so; such an interval often
                       excludes the figure itself
    all others         percentiles of the bootstrap: f1, ap, auc, log_loss, means over classes, errors in years

The units are clusters (`clusters.py`) if rows have them. A figure whose draws are all equal, such as an f1 of 1, has no
interval: rows without errors here do not show that other rows have none.
"""

from collections.abc import Mapping

import numpy as np

from faceattr.evaluation.calibration.reliability import compute_calibration_error, read_confidence
from faceattr.evaluation.figures import find_shares
from faceattr.evaluation.judged import JudgedRows
from faceattr.evaluation.uncertainty.intervals import NO_INTERVAL, Interval, percentile_interval, wilson_interval


def compute_intervals(judged: JudgedRows, draws: Mapping[str, np.ndarray]) -> dict[str, Interval]:
    """Computes figure -> interval; see the module docstring.

    Args:
        judged: rows of one attribute.
        draws: draws of their figures by `bootstrap.compute_draws`.
    """
    num_units = judged.resampling.num_clusters
    found = {name: _drawn_interval(values, num_units) for name, values in draws.items()}
    if len(judged) and judged.attribute.has_class_scores:
        found["calibration_error"] = compute_calibration_error(*read_confidence(judged), judged.clusters)[1]
    return found | _share_intervals(judged)


def _drawn_interval(draws: np.ndarray, num_units: int) -> Interval:
    interval = percentile_interval(draws, num_units)
    return NO_INTERVAL if np.nanmin(draws, initial=np.inf) == np.nanmax(draws, initial=-np.inf) else interval


def _share_intervals(judged: JudgedRows) -> dict[str, Interval]:
    return {name: wilson_interval(right, clusters) for name, (right, clusters) in find_shares(judged).items()}
