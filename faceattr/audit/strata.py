"""Strata of a stratified random sample: score ranges from which rows are drawn with equal probability.

Rows differ in what a judgement of them tells. A row that is scored 0.999 is almost surely a yes; one at the threshold
may be either. With shares p of positives, the variance of an estimated count is smallest if a stratum of N rows gets a
share of the sample in proportion to N * sqrt(p (1 - p)) (Neyman 1934). p is unknown before anyone has judged, so the
score stands in for it: its odds are divided by the threshold's odds, as in `Recentring`, and it is kept within
`SHARE_RANGE`, because models are surer than they should be. Strata are cut so that each holds an equal part of that
sum, and all get the same number of draws.

Rows below the threshold and rows from it on share the sample equally: precision depends on the ones, recall on both.
For rare attributes, the rows below would otherwise get nearly all of it.
"""

from dataclasses import dataclass

import numpy as np

NUM_BINS = 1_024
SHARE_RANGE = (1e-3, 0.95)
"""What a score may claim before anyone has judged: misses are looked for among all rows that it calls a no, and of the
rows that it calls a yes it is not believed that fewer than one in twenty are wrong."""
_DRAWS_PER_STRATUM = 15
# Log odds beyond these are not told apart: 1 in 60,000.
_MAX_LOGIT = 11.0


class ScoreHistogram:
    """Counts of scores in `NUM_BINS` bins of equal width in log odds: 8 KiB, however many rows a table has.

    The threshold is always an edge: bins below it hold no row that is labelled a yes.
    """

    def __init__(self, threshold: float) -> None:
        """Begins empty. `threshold`: in [0, 1]; a score of at least this value is a yes."""
        logits = np.linspace(-_MAX_LOGIT, _MAX_LOGIT, NUM_BINS - 1)
        inner = np.unique(np.append(1 / (1 + np.exp(-logits)), threshold))
        self.threshold = threshold
        self.edges = np.concatenate([[0.0], inner[(inner > 0) & (inner < 1)], [1.0]])
        """float64 [bins + 1], ascending, from 0 to 1."""
        self.counts = np.zeros(len(self.edges) - 1, np.int64)
        """int64 [bins]: rows with edges[i] <= score < edges[i + 1]; the last bin includes 1."""

    def add(self, scores: np.ndarray) -> None:
        """Counts scores, float [n] in [0, 1]."""
        self.counts += np.bincount(find_stratum(scores, self.edges), minlength=len(self.counts))

    @property
    def expected_shares(self) -> np.ndarray:
        """`expected_share` in the middle of each bin, float64 [bins]."""
        return expected_share((self.edges[1:] + self.edges[:-1]) / 2, self.threshold)

    @property
    def informativeness(self) -> np.ndarray:
        """sqrt(p (1 - p)) of one row in each bin, float64 [bins]."""
        return np.asarray(np.sqrt(self.expected_shares * (1 - self.expected_shares)))


@dataclass(frozen=True)
class StrataPlan:
    """Score ranges and the number of draws from each.

    Attributes:
        edges: float64 [strata + 1], ascending, from 0 to 1; a stratum is edges[i] <= score < edges[i + 1].
        num_rows: int64 [strata], rows of the table.
        num_draws: int64 [strata], at most `num_rows`.
    """

    edges: np.ndarray
    num_rows: np.ndarray
    num_draws: np.ndarray


def expected_share(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Returns the share of positives that is expected at each score before anyone has judged, float64 [n]."""
    yes, no = scores * (1 - threshold), (1 - scores) * threshold
    share = np.divide(yes, yes + no, out=np.full(len(scores), 0.5), where=yes + no > 0)
    return np.clip(share, *SHARE_RANGE)


def find_stratum(scores: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Returns the index of the half-open range of each score, int64 [n]; a score of 1 is in the last range."""
    return np.clip(np.searchsorted(edges, scores.astype(np.float64), side="right") - 1, 0, len(edges) - 2)


def plan_strata(histogram: ScoreHistogram, num_draws: int) -> StrataPlan:
    """Cuts the scores into strata and spreads the draws over them; see the module.

    Args:
        histogram: scores of all rows.
        num_draws: size of the sample; fewer if the table has fewer rows.
    """
    cut = int(np.searchsorted(histogram.edges, histogram.threshold)) if 0 < histogram.threshold < 1 else 0
    sides = [slice(0, cut), slice(cut, len(histogram.counts))]
    sides = [each for each in sides if histogram.counts[each].sum()]
    sizes = np.array([histogram.counts[each].sum() for each in sides])
    pieces = [_cut_side(histogram, side, draws) for side, draws in zip(sides, _spread(sizes, num_draws), strict=True)]
    edges = [edge for each in pieces for edge in each[0]]
    # The ends are 0 and 1 even where no row is scored near them.
    return StrataPlan(
        edges=np.array([0.0, *edges[1:], 1.0]),
        num_rows=np.concatenate([each[1] for each in pieces]),
        num_draws=np.concatenate([each[2] for each in pieces]),
    )


def _cut_side(histogram: ScoreHistogram, side: slice, num_draws: int) -> tuple[list[float], np.ndarray, np.ndarray]:
    """Returns lower edges, rows and draws of the strata on one side of the threshold."""
    counts = histogram.counts[side]
    weight = np.cumsum(counts * histogram.informativeness[side])
    wanted = max(1, num_draws // _DRAWS_PER_STRATUM)
    targets = weight[-1] * np.arange(1, wanted) / wanted
    starts = np.unique([0, *(np.searchsorted(weight, targets) + 1)])
    rows = np.add.reduceat(counts, starts[starts < len(counts)])
    starts = starts[: len(rows)][rows > 0]
    rows = rows[rows > 0]
    lower = [float(histogram.edges[side.start + start]) for start in starts]
    return lower, rows, _spread(rows, num_draws)


def _spread(rows: np.ndarray, num_draws: int) -> np.ndarray:
    """Spreads draws evenly over strata with so many rows, int64 [strata]; what one cannot take, the others get."""
    draws = np.zeros(len(rows), np.int64)
    left = min(num_draws, int(rows.sum()))
    while left > 0:
        open_strata = np.flatnonzero(draws < rows)
        each, extra = divmod(left, len(open_strata))
        add = np.full(len(open_strata), each) + (np.arange(len(open_strata)) < extra)
        add = np.minimum(add, rows[open_strata] - draws[open_strata])
        draws[open_strata] += add
        left -= int(add.sum())
    return draws
