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
from faceattr.evaluation.figures import WITHIN_YEARS
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
    if len(judged) and judged.attribute.kind in ("binary", "multiclass"):
        found["calibration_error"] = compute_calibration_error(*read_confidence(judged), judged.clusters)[1]
    return found | _share_intervals(judged)


def _drawn_interval(draws: np.ndarray, num_units: int) -> Interval:
    interval = percentile_interval(draws, num_units)
    return NO_INTERVAL if np.nanmin(draws, initial=np.inf) == np.nanmax(draws, initial=-np.inf) else interval


def _share_intervals(judged: JudgedRows) -> dict[str, Interval]:
    return {name: wilson_interval(right, clusters) for name, (right, clusters) in _shares(judged).items()}


def _shares(judged: JudgedRows) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """Returns figure -> which of its rows are right, and the clusters of these rows."""
    masks: dict[str, np.ndarray] = {}
    everything = np.ones(len(judged), bool)
    if judged.attribute.kind == "age":
        low, high = judged.labels.T
        exact = high - low <= 1
        right = np.where(exact, np.abs(judged.predictions - low) <= WITHIN_YEARS, False)
        right |= ~exact & (judged.predictions >= low) & (judged.predictions < high)
        masks = {f"within_{WITHIN_YEARS}": exact, "range_accuracy": ~exact}
    else:
        right = judged.labels == judged.predictions
        match judged.attribute.kind:
            case "binary":
                masks = {"accuracy": everything, "precision": judged.predictions == 1, "recall": judged.labels == 1}
            case "multiclass":
                masks = {"accuracy": everything}
                for index, name in enumerate(judged.attribute.classes):
                    masks |= {
                        f"precision/{name}": judged.predictions == index,
                        f"recall/{name}": judged.labels == index,
                    }
            case "identity":
                masks = {"top1": everything}
    clusters = judged.clusters
    shares = {
        name: (right[mask], None if clusters is None else clusters[mask]) for name, mask in masks.items() if mask.any()
    }
    if judged.attribute.kind == "identity":
        shares["top5"] = ((judged.outputs == judged.labels[:, None]).any(1), clusters)
    if judged.coarse is not None:
        possible, said = judged.coarse
        shares["coarse_accuracy"] = (possible[np.arange(len(said)), said], judged.coarse_clusters)
    return shares
