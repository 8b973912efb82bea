"""What judgements of a stratified sample say of all rows: weights of the judged items, and their uncertainty.

The estimate counts each judged item of a stratum with N judged m times as N / m rows (Horvitz and Thompson 1952).

Its uncertainty is that of the rows nobody judged. A Polya posterior fills them in (Ghosh and Meeden 1997, Bayesian
Methods for Finite Population Sampling): the N - m other rows of a stratum repeat the judged ones, with probabilities
drawn from a Dirichlet distribution. Every figure is computed on each completed table; the 2.5 and 97.5 percentiles are
its interval. That is right for ratios such as F1, for any threshold, and in strata that were judged completely.

Judged rows alone cannot tell of mistakes that the sample did not meet: if none of 40 judged rows of a stratum is
positive, every completed table would have none. So each side of the threshold gets one more positive and one more
negative row of weight 1/2 (Jeffreys' prior for a share), spread over its strata by where the scores expect them, and
placed at the score of a random item there.
"""

from dataclasses import dataclass

import numpy as np

from faceattr.audit.strata import expected_share

_PRIOR = 0.5


@dataclass(frozen=True, kw_only=True)
class JudgedItems:
    """The judged items of one attribute, and their strata.

    Attributes:
        stratum: int64 [m], index of each item's stratum.
        positive: bool [m], whether the reviewer said yes.
        score: float64 [m], the table's score.
        num_rows: int64 [strata], rows of the table; every stratum has a judged item.
        threshold: the threshold that divided the strata.
    """

    stratum: np.ndarray
    positive: np.ndarray
    score: np.ndarray
    num_rows: np.ndarray
    threshold: float

    @property
    def weights(self) -> np.ndarray:
        """Rows that each item stands for, float64 [m]."""
        counts = np.bincount(self.stratum, minlength=len(self.num_rows))
        return np.asarray((self.num_rows / counts)[self.stratum])


@dataclass(frozen=True, kw_only=True)
class Completions:
    """Tables that are completed at random; columns are the judged items, then two further rows per stratum.

    Attributes:
        weights: float64 [tables, m + 2 * strata], rows that each column stands for.
        positive: bool [m + 2 * strata].
        score: float64 [tables, m + 2 * strata].
    """

    weights: np.ndarray
    positive: np.ndarray
    score: np.ndarray


def complete(items: JudgedItems, *, num_tables: int, seed: int) -> Completions:
    """Draws completed tables; see the module.

    Args:
        items: judged items.
        num_tables: how many.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    num_items, num_strata = len(items.stratum), len(items.num_rows)
    positives, negatives = _prior(items)
    weights = np.empty((num_tables, num_items + 2 * num_strata))
    score = np.empty_like(weights)
    score[:, :num_items] = items.score
    for index in range(num_strata):
        own = np.flatnonzero(items.stratum == index)
        columns = np.append(own, [num_items + index, num_items + num_strata + index])
        shares = generator.gamma(
            [*np.ones(len(own)), positives[index], negatives[index]], size=(num_tables, len(columns))
        )
        shares /= shares.sum(1, keepdims=True)
        weights[:, columns] = generator.multinomial(items.num_rows[index] - len(own), shares)
        weights[:, own] += 1
        score[:, columns[-2:]] = generator.choice(items.score[own], (num_tables, 2))
    positive = np.concatenate([items.positive, np.ones(num_strata, bool), np.zeros(num_strata, bool)])
    return Completions(weights=weights, positive=positive, score=score)


def _prior(items: JudgedItems) -> tuple[np.ndarray, np.ndarray]:
    """Returns the weight of the further positive and of the further negative row of each stratum, float64 [strata]."""
    num_strata = len(items.num_rows)
    counts = np.bincount(items.stratum, minlength=num_strata)
    share = expected_share(items.score, items.threshold)
    expected = np.bincount(items.stratum, weights=share, minlength=num_strata) / counts
    above = np.bincount(items.stratum, weights=items.score >= items.threshold, minlength=num_strata) > 0
    positives, negatives = items.num_rows * expected, items.num_rows * (1 - expected)
    for side in (above, ~above):
        positives[side] *= _PRIOR / max(positives[side].sum(), np.finfo(float).tiny)
        negatives[side] *= _PRIOR / max(negatives[side].sum(), np.finfo(float).tiny)
    # A gamma distribution needs a positive shape; this one has no weight.
    least = 1e-6
    return np.maximum(positives, least), np.maximum(negatives, least)
