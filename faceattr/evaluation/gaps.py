"""Gaps between groups: their size, their uncertainty, and the gap to be expected by chance alone.

The largest minus the smallest of several figures is above 0 even if the groups are equal, and grows with the number of
groups and with fewer rows per group. So each gap has

    an interval    of the range of the true figures: Tukey and Kramer's simultaneous intervals of all pairs of groups
                   (Hayter 1984, Annals of Statistics 12). Its lower end is 0 if no pair differs significantly.
    by chance      the mean range of normal errors with the same standard errors: the gap of equal groups

Standard errors are computed by the bootstrap over clusters (`bootstrap.py`). For a figure in [0, 1] the standard error
is at least Agresti and Coull's (1998), so that a small group without errors does not count as known exactly.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.sparse import csr_array
from scipy.stats import studentized_range

from faceattr.attributes import Attribute
from faceattr.evaluation.judged import JudgedRows
from faceattr.evaluation.uncertainty.bootstrap import Draws, Statistic, resample
from faceattr.evaluation.uncertainty.clusters import number_clusters
from faceattr.evaluation.uncertainty.intervals import LEVEL, NO_INTERVAL, Interval
from faceattr.evaluation.uncertainty.outcome_counts import mean_over_classes, rank_places

_ERROR_PLACES = 256
_CHANCE_DRAWS = 4_000


@dataclass(frozen=True)
class Gap:
    """The difference of one figure between groups.

    Attributes:
        value: largest minus smallest value; NaN with fewer than two groups.
        interval: interval of the largest minus the smallest true value.
        by_chance: expected gap if the groups do not differ.
    """

    value: float
    interval: Interval
    by_chance: float

    @property
    def verdict(self) -> str:
        """`beyond chance` or `within chance`, as in reports; empty if there is no gap."""
        if np.isnan(self.value):
            return ""
        return "beyond chance" if self.interval.low > 0 else "within chance"


UNKNOWN_GAP = Gap(float("nan"), NO_INTERVAL, float("nan"))


def compute_gaps(judged: JudgedRows, groups: np.ndarray, *, resamples: int, seed: int) -> dict[str, Gap]:
    """Computes figure of `groups.py` -> gap.

    Args:
        judged: rows of one attribute; every group counts and has at least two clusters.
        groups: object [n], group name of each row.
        resamples: number of bootstrap resamples for the standard errors.
        seed: seed of the resamples.
    """
    number = np.unique(groups, return_inverse=True)[1].reshape(-1)
    statistic, counts = _build_statistic(judged, number)
    found = statistic.compute(counts)
    draws = resample([statistic], judged.clusters, resamples=resamples, seed=seed)
    # For the minimum standard error, the rows of a cluster count as one.
    units = np.bincount(np.unique(np.stack([number, number_clusters(judged.clusters, len(judged))]), axis=1)[0])
    shrunk = units / np.bincount(number)
    gaps = {}
    for name, values in found.items():
        if name.startswith(_ROWS_OF):
            continue
        spread = _spread(draws[name]) * np.sqrt(units / (units - 1))
        if f"{_ROWS_OF}{name}" in found:
            spread = np.fmax(spread, _least_error(values[0], found[f"{_ROWS_OF}{name}"][0] * shrunk))
        gaps[name] = _gap(values[0], spread, bounded=f"{_ROWS_OF}{name}" in found)
    return gaps


# For a figure in [0, 1], the number of rows that it is a share of is stored under this prefix and its name.
_ROWS_OF = "rows of "


def _build_statistic(judged: JudgedRows, number: np.ndarray) -> tuple[Statistic, np.ndarray]:
    """Returns figures by group, float64 [b, groups], and the observed counts [1, cells]."""
    attribute, labels, said = judged.attribute, judged.labels, judged.predictions
    num_groups = int(number.max()) + 1
    if attribute.is_years:
        error = said - labels[:, 0]
        columns = [number, rank_places(error, _ERROR_PLACES)]
        values = np.stack([np.ones(len(error)), np.abs(error), error], 1)
    elif attribute.is_person:
        columns = [number, (labels == said).astype(np.int64)]
        values = np.stack([np.ones(len(labels)), labels == said], 1)
    elif attribute.is_yes_no:
        columns = [number, labels, said]
        values = np.eye(4)[2 * labels + said]
    else:
        columns = [number, labels, said]
        one_hot = np.eye(len(attribute.classes))
        values = np.concatenate([one_hot[labels], one_hot[said], one_hot[labels] * (labels == said)[:, None]], 1)
    keys, place = np.unique(np.stack(columns, 1), axis=0, return_inverse=True)
    place = place.reshape(-1)
    counts = np.bincount(place)
    means = np.stack([np.bincount(place, weights=column) for column in values.T], 1) / counts[:, None]
    width = means.shape[1]
    into = keys[:, :1] * width + np.arange(width)
    members = csr_array(
        (means.reshape(-1), (np.repeat(np.arange(len(keys)), width), into.reshape(-1))),
        shape=(len(keys), num_groups * width),
    )

    def compute(drawn: np.ndarray) -> Draws:
        with np.errstate(invalid="ignore", divide="ignore"):
            return _figures(attribute, (drawn @ members).reshape(len(drawn), num_groups, width))

    return Statistic(place, compute), counts[None].astype(np.float64)


def _figures(attribute: Attribute, totals: np.ndarray) -> Draws:
    """Returns figures [b, groups] from sums [b, groups, width]; see `_build_statistic`."""
    if attribute.is_years:
        rows, absolute, signed = np.moveaxis(totals, 2, 0)
        return {"mae": absolute / rows, "bias": signed / rows}
    if attribute.is_person:
        return {"top1": totals[..., 1] / totals[..., 0], f"{_ROWS_OF}top1": totals[..., 0]}
    if attribute.is_yes_no:
        true_no, false_yes, false_no, true_yes = np.moveaxis(totals, 2, 0)
        rows = totals.sum(2)
        shares = {
            "accuracy": (true_no + true_yes, rows),
            "precision": (true_yes, true_yes + false_yes),
            "recall": (true_yes, true_yes + false_no),
            "false_positive_rate": (false_yes, true_no + false_yes),
            "selection_rate": (true_yes + false_yes, rows),
            "f1": (true_yes, true_yes + (false_yes + false_no) / 2),
        }
        values = {name: part / whole for name, (part, whole) in shares.items()}
        return values | {f"{_ROWS_OF}{name}": whole for name, (_, whole) in shares.items()}
    labels, said, right = np.moveaxis(totals.reshape(*totals.shape[:2], 3, -1), 2, 0)
    rows = labels.sum(2)
    values = {
        "accuracy": right.sum(2) / rows,
        "balanced_accuracy": mean_over_classes(right / labels),
        "macro_f1": mean_over_classes(2 * right / (labels + said)),
    }
    return values | {f"{_ROWS_OF}{name}": rows for name in values}


def _spread(draws: np.ndarray) -> np.ndarray:
    """Returns the standard deviation of the defined draws, float64 [groups]; 0 if fewer than two are defined."""
    known = ~np.isnan(draws)
    num = np.maximum(known.sum(0), 1)
    filled = np.where(known, draws, 0)
    return np.asarray(np.sqrt(np.maximum(0, (filled**2).sum(0) / num - (filled.sum(0) / num) ** 2)))


def _least_error(share: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns Agresti and Coull's standard error: of the share with two rows added inside and outside it."""
    moved = (share * rows + 2) / (rows + 4)
    return np.asarray(np.sqrt(moved * (1 - moved) / (rows + 4)))


def _gap(values: np.ndarray, spread: np.ndarray, *, bounded: bool) -> Gap:
    known = ~np.isnan(values)
    values, spread = values[known], spread[known]
    if len(values) < 2:
        return UNKNOWN_GAP
    off = values[:, None] - values
    half = _pair_quantile(len(values)) * np.sqrt(spread[:, None] ** 2 + spread**2)
    np.fill_diagonal(half, 0)
    low, high = max(0.0, float((off - half).max())), float((off + half).max())
    errors = np.random.default_rng(0).normal(size=(_CHANCE_DRAWS, len(values))) * spread
    by_chance = float(np.ptp(errors, axis=1).mean())
    return Gap(float(np.ptp(values)), Interval(low, min(1.0, high) if bounded else high), by_chance)


@lru_cache
def _pair_quantile(num_groups: int) -> float:
    """Returns how many standard errors apart the most different pair of groups may be by chance."""
    return float(studentized_range.ppf(LEVEL, num_groups, np.inf) / 2**0.5)
