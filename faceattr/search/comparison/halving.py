"""When successive halving may stop a trial: not before its grace period, and, by bounds, not on noise.

    grace    the larger of sqrt(epochs) and one whole epoch after the warm-up of what is compared

Halving compares trials after grace, grace * reduction, ... epochs. Early epochs say least about the last one: rates
have not been reached yet, and differences are below their standard error. The square root is the geometric mean of one
epoch and all: it drops the lower half of the possible comparisons, whose savings in epochs are the smallest, and keeps
the upper half. During the warm-up every trial trains at nearly the same low rate, and before the end of the first of
two stages nothing of the second has been tried.

    rank     a trial is stopped if its objective is below the best 1 / reduction of those that came as far (ASHA, Li et
             al. 2020, arXiv:1810.05934)
    bounds   a trial is stopped if its upper bound is below the lower bound of the one at that rank
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from faceattr.config.train import TrainConfig
from faceattr.search.space import Space


def choose_grace(base: TrainConfig, space: Space) -> int:
    """Returns the number of epochs that every trial of a search gets.

    Args:
        base: settings that the trials share, without `auto`.
        space: settings that trials differ in.
    """
    epochs = base.optim.epochs
    warmup = _largest("optim.warmup_epochs", base.fit.optim.warmup_epochs, space)
    schedules = space.possible("freeze.schedule") or (base.freeze.schedule,)
    before = _largest("freeze.head_epochs", base.freeze.head_epochs, space) if "two-stage" in schedules else 0
    return min(epochs, max(math.ceil(math.sqrt(epochs)), math.ceil(before + warmup) + 1))


def _largest(key: str, shared: float, space: Space) -> float:
    possible = space.possible(key)
    return shared if possible is None else max(each for each in possible if not isinstance(each, str))


@dataclass
class BoundsHalving:
    """Successive halving by bounds. Trials are told by name; each is compared once at every rung.

    Attributes:
        rungs: numbers of epochs after which trials are compared, rising.
        reduction: one in `reduction` of the trials is at or above the rank that others are compared with.
    """

    rungs: Sequence[int]
    reduction: int
    _reached: dict[int, dict[str, tuple[float, float]]] = field(default_factory=dict)

    def stops(self, name: str, epoch: int, *, objective: float, low: float, high: float) -> bool:
        """Takes the judgement of a trial after an epoch, and returns whether the trial is to stop.

        Args:
            name: the trial.
            epoch: number of its epochs.
            objective: its objective.
            low: lower bound of the objective.
            high: upper bound; with bounds that are not known, the trial is not stopped and stops none.
        """
        for rung in reversed(self.rungs):
            reached = self._reached.setdefault(rung, {})
            if epoch < rung or name in reached:
                continue
            others = sorted(reached.values(), reverse=True)
            if math.isfinite(objective) and math.isfinite(low):
                reached[name] = (objective, low)
            if not others:
                return False
            _, compared_low = others[math.ceil(len(others) / self.reduction) - 1]
            return high < compared_low
        return False


def list_rungs(grace: int, reduction: int, num_epochs: int) -> list[int]:
    """Returns the numbers of epochs after which trials are compared: grace * reduction ** k, below the last epoch."""
    rungs = []
    rung = grace
    while rung < num_epochs:
        rungs.append(rung)
        rung *= reduction
    return rungs
