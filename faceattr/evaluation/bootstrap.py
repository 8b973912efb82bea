"""95 % intervals by the bootstrap: how far a figure would move had other rows of the same kind been drawn.

Rows are resampled with replacement within each class of the label, so that a rare class does not vanish from a
resample: the intervals are those at the test set's own share of each class. (Persons of an identity have a few rows
each and are resampled together.) Percentiles 2.5 and 97.5 of the draws; a figure that is undefined in a draw is left
out of it. Figures are never the bootstrap's: they are taken on all rows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from faceattr.evaluation.cells import MAX_PLACES, Cells, ClassCells, build_cells
from faceattr.evaluation.judged import Judged

DEFAULT_RESAMPLES = 1_000
_COVERAGE = (2.5, 97.5)
# Numbers held at a time.
_CHUNK = 4_000_000
# Distinct scores of each of two models, so that their pairs stay few.
_MAX_PAIR_PLACES = 256


@dataclass(frozen=True)
class Interval:
    """What 95 % of the resamples lie between; NaN where the figure is never defined."""

    low: float
    high: float


def compute_draws(judged: Judged, *, resamples: int = DEFAULT_RESAMPLES, seed: int = 0) -> dict[str, np.ndarray]:
    """Figure -> float64 [resamples], for every figure of `figures.py` but `coarse_accuracy`.

    The same seed gives the same draws.
    """
    if not len(judged):
        return {}
    rng = np.random.default_rng(seed)
    cells = build_cells(judged)
    draws = _draw_figures(cells, cells.figures, resamples, rng)
    if isinstance(cells, ClassCells):
        for name, of_class in cells.by_class.items():
            curves = _draw_figures(of_class, of_class.curves, resamples, rng)
            draws |= {f"{key}/{name}": values for key, values in curves.items()}
    return draws


def compute_difference_draws(
    first: Judged, second: Judged, *, resamples: int = DEFAULT_RESAMPLES, seed: int = 0
) -> dict[str, np.ndarray]:
    """Figure -> float64 [resamples] of second minus first: both are judged on the same resampled rows."""
    if not np.array_equal(first.rows, second.rows) or not np.array_equal(first.labels, second.labels):
        raise ValueError("two models can be compared on the same labelled rows only")
    if not len(first):
        return {}
    places = MAX_PLACES if len(first) <= MAX_PLACES else _MAX_PAIR_PLACES
    cells = [build_cells(each, max_places=places) for each in (first, second)]
    pairs, place = np.unique(np.stack([each.place for each in cells], 1), axis=0, return_inverse=True)
    counts = np.bincount(place.reshape(-1))
    # Both cells of a pair hold the same label, so the first one's class is the pair's.
    strata = cells[0].strata[pairs[:, 0]]
    rng = np.random.default_rng(seed)
    rows = np.arange(len(pairs))
    sides = [
        csr_array((np.ones(len(pairs)), (rows, pairs[:, side])), shape=(len(pairs), len(each.strata)))
        for side, each in enumerate(cells)
    ]
    parts = []
    for drawn in _resample(counts, strata, resamples, rng):
        values = [each.figures(drawn @ side) for each, side in zip(cells, sides, strict=True)]
        parts.append({name: values[1][name] - values[0][name] for name in values[0] if name in values[1]})
    return _joined(parts)


def compute_interval(draws: np.ndarray) -> Interval:
    """Percentiles of draws."""
    defined = draws[~np.isnan(draws)]
    if not len(defined):
        return Interval(float("nan"), float("nan"))
    low, high = np.percentile(defined, _COVERAGE)
    return Interval(float(low), float(high))


def _draw_figures(
    cells: Cells, figures: Callable[[np.ndarray], dict[str, np.ndarray]], resamples: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    return _joined([figures(drawn) for drawn in _resample(cells.counts, cells.strata, resamples, rng)])


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _resample(counts: np.ndarray, strata: np.ndarray, resamples: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Counts [b, K] of resamples, some at a time; those of a stratum always sum to the same."""
    groups = [np.flatnonzero(strata == value) for value in np.unique(strata)]
    step = max(1, min(resamples, _CHUNK // len(counts)))
    for start in range(0, resamples, step):
        drawn = np.zeros((min(step, resamples - start), len(counts)))
        for group in groups:
            total = counts[group].sum()
            drawn[:, group] = rng.multinomial(total, counts[group] / total, size=len(drawn))
        yield drawn
