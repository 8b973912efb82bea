"""Trials that are trained again with other seeds: the choice between them is made on the mean.

The best of many trials is partly the one with the luckiest seed. A repeat has the settings of its trial and another
seed; it has the files of a trial, in the folder `repeats/`, and a number of its own.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from faceattr.config.search import RepeatConfig
from faceattr.search.records import TrialRecord, best_trial

REPEATS_FOLDER = "repeats"


@dataclass(frozen=True, kw_only=True)
class RepeatedTrial:
    """A trial with its repeats.

    Attributes:
        trial: the trial.
        objectives: its objective, then the objectives of its finished repeats, by seed.
        num_failed: number of repeats without an objective.
    """

    trial: TrialRecord
    objectives: tuple[float, ...]
    num_failed: int

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.objectives))

    @property
    def deviation(self) -> float:
        """Standard deviation over the seeds; NaN with one."""
        return float(np.std(self.objectives, ddof=1)) if len(self.objectives) > 1 else math.nan

    def __str__(self) -> str:
        values = ", ".join(f"{each:.4f}" for each in self.objectives)
        spread = "" if math.isnan(self.deviation) else f", standard deviation {self.deviation:.4f}"
        failed = f"; {self.num_failed} failed" if self.num_failed else ""
        return f"{self.trial.name}  mean {self.mean:.4f} over {len(self.objectives)} seeds{spread} ({values}){failed}"


def rank_finished(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Returns the finished trials, the best first; on a tie the one that was drawn first."""
    left, ranked = list(trials), []
    while (best := best_trial(left)) is not None:
        ranked.append(best)
        left.remove(best)
    return ranked


def list_repeats(
    settings: RepeatConfig, trials: Sequence[TrialRecord], *, shared_seed: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields number and settings of each repeat of the best trials.

    Args:
        settings: which trials are repeated, and how often.
        trials: trials that have ended.
        shared_seed: seed of trials whose settings have none.
    """
    for trial in rank_finished(trials)[: settings.top]:
        for extra in range(1, settings.seeds):
            seed = int(trial.values.get("seed", shared_seed)) + extra
            yield _number(settings, trial, extra), {**trial.values, "seed": seed}


def gather_repeats(
    settings: RepeatConfig, trials: Sequence[TrialRecord], repeats: Mapping[int, TrialRecord]
) -> list[RepeatedTrial]:
    """Returns the best trials with their repeats, the one with the best mean first.

    Args:
        settings: which trials are repeated, and how often.
        trials: trials that have ended.
        repeats: number of a repeat -> its record.
    """
    found = []
    for trial in rank_finished(trials)[: settings.top]:
        records = [repeats.get(_number(settings, trial, extra)) for extra in range(1, settings.seeds)]
        judged = [each.judgement.objective for each in records if each is not None and each.judgement is not None]
        assert trial.judgement is not None
        found.append(
            RepeatedTrial(
                trial=trial, objectives=(trial.judgement.objective, *judged), num_failed=len(records) - len(judged)
            )
        )
    return sorted(found, key=lambda each: (-each.mean, each.trial.number))


def _number(settings: RepeatConfig, trial: TrialRecord, extra: int) -> int:
    return trial.number * (settings.seeds - 1) + extra - 1
