"""Which trials cannot be told apart from the best one: their difference may be due to the choice of validation images.

A difference d with the standard error s counts as real above 1.96 s: a difference of 0 would exceed that in one of
twenty validation sets. The best of many trials is also the luckiest one, so a difference that counts is no proof.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from faceattr.search.records import Judgement, TrialRecord, deviate

QUANTILE = float(norm.ppf(0.975))
"""A difference of this many standard errors counts as real."""
_MOST_SHOWN = 8


@dataclass(frozen=True)
class Lead:
    """How far the best trial is ahead of another one.

    Attributes:
        value: difference of the objectives.
        standard_error: of the difference; NaN if it is unknown.
    """

    value: float
    standard_error: float

    @property
    def is_real(self) -> bool:
        """Whether it is too large to be due to the choice of images. False if the standard error is unknown."""
        return self.value > QUANTILE * self.standard_error


def bound_objective(judgement: Judgement) -> tuple[float, float]:
    """Returns the 95 % interval of an objective, by percentiles of its draws; NaN if there are none."""
    defined = np.array(judgement.draws)
    defined = defined[np.isfinite(defined)]
    if not len(defined):
        return math.nan, math.nan
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)


def compare_trials(best: Judgement, other: Judgement) -> Lead:
    """Compares two judgements on the same validation rows."""
    value = best.objective - other.objective
    if not best.draws or len(best.draws) != len(other.draws):
        return Lead(value, math.nan)
    pairs = zip(best.draws, other.draws, strict=True)
    return Lead(value, deviate([one - another for one, another in pairs]))


def find_ties(best: TrialRecord, trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Returns the other finished trials that cannot be told apart from the best one, the best of them first.

    Trials without draws, from an earlier version, are left out: nothing is known of them.
    """
    tied = []
    for trial in trials:
        if trial.number == best.number or trial.status != "finished" or not trial.judgement or not best.judgement:
            continue
        difference = compare_trials(best.judgement, trial.judgement)
        if math.isfinite(difference.standard_error) and not difference.is_real:
            tied.append((difference.value, trial))
    return [trial for _, trial in sorted(tied, key=lambda each: (each[0], each[1].number))]


def describe_ties(best: TrialRecord, trials: Sequence[TrialRecord]) -> str:
    """Returns a sentence on the trials that cannot be told apart from the best one."""
    tied = find_ties(best, trials)
    if not tied and not any(each.status == "finished" for each in trials if each.number != best.number):
        return "no other trial has finished, so that none can be compared with it"
    if not tied:
        return (
            f"every other finished trial is behind {best.name} by more than {QUANTILE:.2f} standard errors of the "
            "difference"
        )
    shown = ", ".join(trial.name for trial in tied[:_MOST_SHOWN])
    more = f" and {len(tied) - _MOST_SHOWN} more" if len(tied) > _MOST_SHOWN else ""
    return (
        f"{shown}{more} cannot be told apart from {best.name} on these validation images: behind by less than "
        f"{QUANTILE:.2f} standard errors of the difference (--repeat.top trains the best ones with more seeds)"
    )
