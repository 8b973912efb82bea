"""Bootstrap: how much a figure would vary if other rows of the same kind had been drawn.

Clusters of rows (`clusters.py`), or single rows if none belong together, are resampled with replacement with equal
probability (Efron & Tibshirani 1993; for clusters: Field & Welsh 2007, J. Royal Statistical Society B 69). Class
shares vary with them; if they were held fixed, the intervals would be too narrow. A figure that is undefined in a
draw, such as the recall of a class without rows, is NaN there. Reported figures never come from the bootstrap: they
are computed on all rows.

Memory does not grow with rows x resamples: draws are made in chunks of at most `_CHUNK` numbers.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from faceattr.evaluation.figures import COMBINED_WEIGHTS, build_cells
from faceattr.evaluation.judged import JudgedRows
from faceattr.evaluation.uncertainty.clusters import number_clusters
from faceattr.evaluation.uncertainty.outcome_counts import MAX_PLACES, ClassCells

DEFAULT_RESAMPLES = 1_000
_CHUNK = 1_000_000
# Number of distinct scores per model when two are compared, so that there are few pairs of scores.
_MAX_PAIR_PLACES = 256

Draws = dict[str, np.ndarray]
"""Figure -> float64 [resamples]."""


@dataclass(frozen=True)
class Statistic:
    """Figures that depend only on how many rows are in each cell.

    Attributes:
        place: int64 [n], cell index of each row; every cell has a row.
        compute: maps counts float64 [b, cells] to figure -> float64 [b, ...].
    """

    place: np.ndarray
    compute: Callable[[np.ndarray], Draws]


def compute_draws(judged: JudgedRows, *, resamples: int = DEFAULT_RESAMPLES, seed: int = 0) -> Draws:
    """Draws every figure of `figures.py` except `coarse_accuracy`, `ece` and `calibration_error`.

    The same seed gives the same draws.
    """
    if not len(judged):
        return {}
    cells = build_cells(judged)
    statistics = [Statistic(cells.place, cells.figures)]
    if isinstance(cells, ClassCells):
        statistics += [Statistic(each.place, _of_class(name, each.curves)) for name, each in cells.by_class.items()]
    return resample(statistics, judged.clusters, resamples=resamples, seed=seed)


def compute_difference_draws(
    first: JudgedRows, second: JudgedRows, *, resamples: int = DEFAULT_RESAMPLES, seed: int = 0
) -> Draws:
    """Draws second minus first, with both models judged on the same resampled rows."""
    if not np.array_equal(first.rows, second.rows) or not np.array_equal(first.labels, second.labels):
        raise ValueError("two models can be compared on the same labelled rows only")
    if not len(first):
        return {}
    places = MAX_PLACES if len(first) <= MAX_PLACES else _MAX_PAIR_PLACES
    cells = [build_cells(each, max_places=places) for each in (first, second)]
    pairs, place = np.unique(np.stack([each.place for each in cells], 1), axis=0, return_inverse=True)
    rows = np.arange(len(pairs))
    sides = [
        csr_array((np.ones(len(pairs)), (rows, pairs[:, side])), shape=(len(pairs), each.num_cells))
        for side, each in enumerate(cells)
    ]

    def compute(counts: np.ndarray) -> Draws:
        one, other = (each.figures(counts @ side) for each, side in zip(cells, sides, strict=True))
        return {name: other[name] - one[name] for name in one if name in other}

    return resample([Statistic(place.reshape(-1), compute)], first.clusters, resamples=resamples, seed=seed)


def compute_combined_draws(gender: JudgedRows, person: JudgedRows, *, resamples: int, seed: int) -> np.ndarray:
    """Draws `figures.compute_combined`, float64 [resamples]; rows with both labels are drawn with both."""
    rows = np.union1d(gender.rows, person.rows)
    # Per attribute: 0 no label, 1 wrong, 2 right.
    states = np.zeros((len(rows), 2), np.int64)
    clusters = np.zeros(len(rows), np.int64)
    for column, each in enumerate((gender, person)):
        at = np.searchsorted(rows, each.rows)
        states[at, column] = 1 + (each.predictions == each.labels)
        clusters[at] = each.rows if each.clusters is None else each.clusters
    keys, place = np.unique(states, axis=0, return_inverse=True)
    weights = (COMBINED_WEIGHTS["gender"], COMBINED_WEIGHTS["identity"])

    def compute(counts: np.ndarray) -> Draws:
        with np.errstate(invalid="ignore"):
            shares = [counts @ (keys[:, column] == 2) / (counts @ (keys[:, column] > 0)) for column in (0, 1)]
        return {"score": weights[0] * shares[0] + weights[1] * shares[1]}

    alone = gender.clusters is None and person.clusters is None
    statistic = Statistic(place.reshape(-1), compute)
    return resample([statistic], None if alone else clusters, resamples=resamples, seed=seed)["score"]


def resample(statistics: Sequence[Statistic], clusters: np.ndarray | None, *, resamples: int, seed: int) -> Draws:
    """Draws all statistics. With clusters all share the same draws; with independent rows each draws its own cells.

    Args:
        statistics: statistics over the same n rows.
        clusters: int64 [n]; None if rows are independent.
        resamples: number of draws.
        seed: seed of the draws.
    """
    rng = np.random.default_rng(seed)
    draws: Draws = {}
    if clusters is None:
        for each in statistics:
            draws |= _joined([each.compute(counts) for counts in _draw_rows(each.place, resamples, rng)])
        return draws
    numbers = number_clusters(clusters, len(clusters))
    members = [csr_array((np.ones(len(numbers)), (numbers, each.place))) for each in statistics]
    parts: list[list[Draws]] = [[] for _ in statistics]
    num = members[0].shape[0]
    width = max(num, *(member.shape[1] for member in members))
    for times in _draw_clusters(num, resamples, width, rng):
        for part, each, member in zip(parts, statistics, members, strict=True):
            part.append(each.compute(times @ member))
    for part in parts:
        draws |= _joined(part)
    return draws


def _draw_rows(place: np.ndarray, resamples: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yields counts [b, cells]. The rows of a cell are equal, so a resample is one multinomial draw over cells."""
    counts = np.bincount(place)
    for size in _sizes(len(counts), resamples):
        yield rng.multinomial(len(place), counts / len(place), size=size).astype(np.float64)


def _draw_clusters(num: int, resamples: int, width: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yields how often each cluster is drawn, [b, clusters]."""
    for size in _sizes(width, resamples):
        drawn = rng.integers(0, num, (size, num)) + num * np.arange(size)[:, None]
        yield np.bincount(drawn.reshape(-1), minlength=size * num).reshape(size, num).astype(np.float64)


def _sizes(width: int, resamples: int) -> Iterator[int]:
    step = max(1, min(resamples, _CHUNK // width))
    for start in range(0, resamples, step):
        yield min(step, resamples - start)


def _of_class(name: str, compute: Callable[[np.ndarray], Draws]) -> Callable[[np.ndarray], Draws]:
    return lambda counts: {f"{key}/{name}": values for key, values in compute(counts).items()}


def _joined(parts: list[Draws]) -> Draws:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
