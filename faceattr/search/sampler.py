"""Draws the settings of trials: at random, or by TPE (Optuna) from the results of finished trials.

Random settings depend on (seed, number of the trial) alone. When a search resumes, TPE is told the finished trials
again. No study is stored: the records of the trials are the only source.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from faceattr.config.search import Algorithm
from faceattr.search.records import TrialRecord
from faceattr.search.space import Space

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Sampler:
    """Draws the settings of one trial after another, and is told their results."""

    def __init__(
        self,
        space: Space,
        algorithm: Algorithm,
        *,
        seed: int,
        two_objectives: bool,
        num_samples: int,
        records: Sequence[TrialRecord] = (),
        num_begun: int = 0,
        first: Mapping[str, Any] | None = None,
    ) -> None:
        """Starts a search, or resumes one after some trials.

        Args:
            space: the space to draw from.
            algorithm: how settings are drawn.
            seed: seed of the draws.
            two_objectives: whether the mean over the auxiliary attributes is a second objective.
            num_samples: trials of the whole search; TPE draws a quarter of them (4 to 10) at random.
            records: records of trials that have ended.
            num_begun: number of trials that were ever drawn, ended or not.
            first: settings of trial 0, which is then not drawn.
        """
        self._space, self._algorithm, self._seed = space, algorithm, seed
        self._two = two_objectives
        self._first = first
        self._asked: dict[int, optuna.Trial] = {}
        # With the seed it started with, a resumed TPE would draw its first settings once more.
        tpe = optuna.samplers.TPESampler(
            seed=int(np.random.default_rng((seed, max(num_begun, len(records)))).integers(2**31)),
            n_startup_trials=min(10, max(4, num_samples // 4)),
            constant_liar=True,
        )
        self.study = build_study(space, records, two_objectives=two_objectives, sampler=tpe)

    def ask(self, number: int) -> dict[str, Any]:
        """Returns the settings of a trial, key -> value."""
        if number == 0 and self._first is not None:
            return dict(self._first)
        if self._algorithm == "random":
            return self._space.draw(np.random.default_rng((self._seed, number)))
        trial = self.study.ask()
        self._asked[number] = trial
        return self._space.suggest(trial)

    def tell(self, record: TrialRecord) -> None:
        """Learns from the record of a trial, whether its settings were drawn here or elsewhere."""
        trial = self._asked.pop(record.number, None)
        values = _values(record, two_objectives=self._two)
        if trial is None:
            self.study.add_trial(_frozen_trial(self._space, record, values))
        elif values is None:
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            self.study.tell(trial, values)


def build_study(
    space: Space,
    records: Sequence[TrialRecord],
    *,
    two_objectives: bool,
    sampler: optuna.samplers.BaseSampler | None = None,
) -> optuna.Study:
    """Builds a study in memory with the trials, for drawing and for finding out which settings matter."""
    study = optuna.create_study(directions=["maximize"] * (2 if two_objectives else 1), sampler=sampler)
    for record in records:
        study.add_trial(_frozen_trial(space, record, _values(record, two_objectives=two_objectives)))
    return study


def _values(record: TrialRecord, *, two_objectives: bool) -> list[float] | None:
    judgement = record.judgement
    if record.status == "failed" or judgement is None:
        return None
    if not two_objectives:
        return [judgement.objective]
    main = judgement.objective
    return [main, judgement.auxiliary if judgement.auxiliary is not None else main]


def _frozen_trial(space: Space, record: TrialRecord, values: list[float] | None) -> optuna.trial.FrozenTrial:
    active = space.active(record.values)
    return optuna.trial.create_trial(
        params={key: record.values[key] for key in active},
        distributions={key: distribution.to_optuna() for key, distribution in active.items()},
        values=values,
        state=TrialState.COMPLETE if values is not None else TrialState.FAIL,
        user_attrs={"number": record.number},
    )


def compute_importances(space: Space, records: Sequence[TrialRecord]) -> Mapping[str, float]:
    """Returns searched key -> its share of the variance of the objective (Optuna's fANOVA), largest first.

    Only keys that every trial searched can be compared. Empty with too few trials, or if all objectives are equal.
    """
    judged = [record for record in records if _values(record, two_objectives=False) is not None]
    study = build_study(space, judged, two_objectives=False)
    objectives = [trial.value for trial in study.trials]
    params = optuna.search_space.intersection_search_space(study.trials)
    # A key with one possible value explains nothing, and Optuna refuses it.
    varied = [key for key, distribution in params.items() if not distribution.single()]
    if len(judged) < 4 or not varied or len(set(objectives)) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found: Mapping[str, float] = optuna.importance.get_param_importances(study, evaluator=evaluator, params=varied)
    return found
