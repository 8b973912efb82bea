"""Scores of a teacher with a threshold of its own, moved to the scale on which 0.5 is the threshold.

A question with `threshold: 0.2` says yes from 0.2 on. Everything that learns from scores (soft losses and their
confidence weights, label smoothing, class weights, hard labels together with soft ones, runs with other thresholds)
takes 0.5 as the boundary between no and yes, so scores are recentred where a label run is read:

    logit(moved)     = logit(score) - logit(threshold)
    logit(recentred) = logit(moved) * (yes_slope if it is a yes, else no_slope)

The first is Bayes' rule for prior odds changed by (1 - threshold) / threshold (Elkan 2001, The Foundations of
Cost-Sensitive Learning, theorem 2). Alone it leaves one side unsure: with a threshold of 0.9, the scores of yes are
from 0.5 to 0.6 if the teacher never gives more than 0.93, while scores of no reach down to 0. Students of such scores
lean to no (measured in docs/benchmarks.md). So the side that is less sure is stretched until the mean of |2 p - 1| is
the same on both; the other one has the slope 1. No two scores change places, though float32 may make neighbours close
to 0 or 1 equal; the values 0 and 1 stay unchanged.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from faceattr.attributes import DEFAULT_THRESHOLD, Attribute
from faceattr.data.runs.run_attributes import Decision

_BELOW = np.nextafter(np.float32(DEFAULT_THRESHOLD), np.float32(0))
# Log odds are counted in bins of equal width on the logarithmic scale: 0.5 % each.
_SMALLEST, _LARGEST = 1e-8, 100.0
_NUM_BINS = 4_600
_STEEPEST = 1e6
_HALVINGS = 60

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Recentring:
    """How the scores of one attribute of one run are recentred; see the module.

    Attributes:
        threshold: in [0, 1]; a score of at least this value is a yes.
        no_slope: factor of the log odds of a no, 1 or more.
        yes_slope: factor of the log odds of a yes, 1 or more.
    """

    threshold: float
    no_slope: float = 1.0
    yes_slope: float = 1.0

    def apply(self, scores: pa.ChunkedArray, labels: pa.ChunkedArray) -> pa.Array:
        """Returns scores that are at least 0.5 for a yes and less for a no, float32 [n]; null where there was none.

        Args:
            scores: float32 [n] P(yes) in [0, 1], or null.
            labels: int [n], 0 or 1 by the threshold; null if the teacher abstained or the label is unknown.
        """
        label = labels.cast(pa.int8()).fill_null(-1).to_numpy()
        moved = self._move(scores)
        for slope, side in ((self.no_slope, moved < DEFAULT_THRESHOLD), (self.yes_slope, moved > DEFAULT_THRESHOLD)):
            if slope != 1:
                moved[side] = _stretch(moved[side], slope)
        found = moved.astype(np.float32)
        # A score close to the threshold stays on its side, whatever rounding does.
        found = np.where(label == 1, np.maximum(found, np.float32(DEFAULT_THRESHOLD)), found)
        found = np.where(label == 0, np.minimum(found, _BELOW), found)
        return pa.array(found, pa.float32(), mask=scores.is_null().to_numpy(zero_copy_only=False))

    def _move(self, scores: pa.ChunkedArray) -> _Floats:
        score = scores.cast(pa.float64()).fill_null(0.0).to_numpy()
        yes, no = score * (1 - self.threshold), (1 - score) * self.threshold
        # Both are 0 for score 0 at threshold 0, and for score 1 at threshold 1; the threshold is reached: a yes.
        return np.divide(yes, yes + no, out=np.ones_like(yes), where=yes + no > 0)


def moved_decisions(decisions: Mapping[str, Decision], scored: Mapping[str, Attribute]) -> dict[str, Decision]:
    """Returns the decisions, by attribute, whose scores are to be recentred: binary ones with another threshold."""
    return {
        name: each
        for name, each in decisions.items()
        if name in scored and scored[name].has_threshold and each.threshold != DEFAULT_THRESHOLD
    }


def measure_recentrings(tables: Iterable[pa.Table], decisions: Mapping[str, Decision]) -> dict[str, Recentring]:
    """Measures how unsure the two sides of each attribute are. Memory does not grow with the number of rows.

    Args:
        tables: `<name>` and `<name>_score` of all rows of a run; rows without a label do not count.
        decisions: name of a binary attribute -> its decision.
    """
    moved = {name: Recentring(threshold=each.threshold) for name, each in decisions.items()}
    sides = {name: (_Side(), _Side()) for name in decisions}
    for table in tables:
        for name, recentring in moved.items():
            score = recentring.apply(table[f"{name}_score"], table[name]).to_numpy(zero_copy_only=False)
            label = table[name].cast(pa.int8()).fill_null(-1).to_numpy()
            for value, side in enumerate(sides[name]):
                side.add(score[(label == value) & ~np.isnan(score)])
    return {name: _balance(recentring.threshold, *sides[name]) for name, recentring in moved.items()}


class _Side:
    """How far the scores of one label are from undecided."""

    def __init__(self) -> None:
        self._counts = np.zeros(_NUM_BINS)
        self._sums = np.zeros(_NUM_BINS)

    def add(self, scores: npt.NDArray[np.float32]) -> None:
        log_odds = np.abs(_log_odds(scores.astype(np.float64)))
        place = np.log(log_odds.clip(_SMALLEST) / _SMALLEST) / np.log(_LARGEST / _SMALLEST)
        bins = np.minimum((place * _NUM_BINS).astype(np.int64), _NUM_BINS - 1)
        self._counts += np.bincount(bins, minlength=_NUM_BINS)
        self._sums += np.bincount(bins, weights=log_odds, minlength=_NUM_BINS)

    @property
    def is_empty(self) -> bool:
        return not self._counts.any()

    def mean_confidence(self, slope: float = 1.0) -> float:
        """Returns the mean of |2 p - 1|, which is tanh of half the log odds."""
        known = self._counts > 0
        means = self._sums[known] / self._counts[known]
        return float(np.average(np.tanh(slope * means / 2), weights=self._counts[known]))


def _balance(threshold: float, no: _Side, yes: _Side) -> Recentring:
    if no.is_empty or yes.is_empty:
        return Recentring(threshold=threshold)
    wanted = max(no.mean_confidence(), yes.mean_confidence())
    return Recentring(threshold=threshold, no_slope=_find_slope(no, wanted), yes_slope=_find_slope(yes, wanted))


def _find_slope(side: _Side, wanted: float) -> float:
    """Returns the slope in [1, _STEEPEST] with this mean confidence, by bisection of its logarithm."""
    if side.mean_confidence() >= wanted:
        return 1.0
    low, high = 0.0, float(np.log(_STEEPEST))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if side.mean_confidence(float(np.exp(middle))) < wanted else (low, middle)
    # Rounded, since other processors give other last digits, and a combined run must be resumable on them.
    return float(f"{np.exp(high):.6g}")


def _log_odds(scores: _Floats) -> _Floats:
    """Returns log odds, limited to +-_LARGEST for scores near 0 and 1."""
    with np.errstate(divide="ignore"):
        return np.asarray((np.log(scores) - np.log1p(-scores)).clip(-_LARGEST, _LARGEST))


def _stretch(scores: _Floats, slope: float) -> _Floats:
    """Multiplies the log odds of scores in [0, 1]; 0 and 1 stay."""
    with np.errstate(divide="ignore", over="ignore"):
        return np.asarray(1 / (1 + np.exp(-slope * (np.log(scores) - np.log1p(-scores)))))
