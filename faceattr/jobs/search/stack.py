"""Many trials that train heads alone, as one training; see `faceattr.training.features.stacked_fit`."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from faceattr.config.fit import FitConfig, compute_fingerprint
from faceattr.config.train import TrainConfig
from faceattr.data.stores.open import open_store
from faceattr.errors import RunError
from faceattr.jobs.cluster.milestones import reach
from faceattr.jobs.search.inputs import SearchPlan, open_inputs
from faceattr.jobs.search.trial import TRIAL, ReportTrial, is_kept, save_trial_model
from faceattr.models.multitask import MultiAttributeModel
from faceattr.search.backbone_cuts import BackboneCuts
from faceattr.search.cache_choice import CachePlan
from faceattr.search.comparison.front import find_front
from faceattr.search.comparison.repeats import rank_finished
from faceattr.search.records import TrialRecord, TrialReport
from faceattr.training.features.feed import FeatureFeed
from faceattr.training.features.stacked_fit import StackedTrial, fit_stacked, shared_settings, why_not_stacked
from faceattr.training.metrics import Metrics


def stack_key(config: TrainConfig, facts: BackboneCuts, caches: CachePlan) -> str | None:
    """Returns a key: trials with the same key can train as one stack. None for a trial that has to train alone.

    Args:
        config: config of the trial.
        facts: facts about the network.
        caches: caches of the search.
    """
    heads_only = config.freeze.depth in ("all", -1, facts.num_blocks) and config.freeze.schedule == "constant"
    cached = facts.num_blocks in caches.boundaries
    seen = caches.num_views if config.augment.strength else caches.plain
    alone = config.workers.num_workers > 1 or config.lora.rank
    if not heads_only or not cached or not seen or alone or why_not_stacked(config.fit) is not None:
        return None
    fit = shared_settings(config.fit)
    return compute_fingerprint(replace(config, output="any", loss=fit.loss, optim=fit.optim))


def train_stack(
    plan: SearchPlan,
    numbers: Sequence[int],
    settings: Sequence[Mapping[str, Any]],
    report: ReportTrial,
    *,
    device: torch.device,
) -> None:
    """Trains and judges trials with the same `stack_key`; saves the models that are kept.

    Args:
        plan: plan of the search.
        numbers: numbers of the trials.
        settings: settings of each trial, key -> value.
        report: receives a `TrialReport` of all trials, once, under `report`.
        device: where the model runs.

    Raises:
        FaceattrError: none of them can be trained.
    """
    started_s = time.monotonic()
    configs = [plan.config_of(number, values) for number, values in zip(numbers, settings, strict=True)]
    model = plan.inputs.build_model(configs[0])
    reach(TRIAL, "model loaded")
    inputs = open_inputs(plan, configs[0], model)
    feed = inputs.feed
    if not isinstance(feed, FeatureFeed):
        feed.close()
        raise RunError(f"a stack needs cached features, but its trials would read {inputs.note}")
    # The learning rates of the stages are not needed: there is one stage.
    fits: list[FitConfig] = [config.fit for config in configs]
    trials = fit_stacked(
        model,
        inputs.batches,
        fits,
        counts=plan.inputs.counts,
        device=device,
    )
    reach(TRIAL, "all epochs")
    judge = _StackJudge(plan, model, torch.cat([batch.inputs for batch in feed.val_batches()]))
    records = [judge(*each) for each in zip(numbers, settings, trials, strict=True)]
    share = (time.monotonic() - started_s) / len(records)
    records = [replace(record, inputs=inputs.note, seconds=share, stacked=True) for record in records]
    _save_kept(plan, model, configs, records, trials)
    described = TrialReport(records=tuple(records), state="over").encode()
    report({"epoch": 0, "objective": _best_objective(records), "report": described})


class _StackJudge:
    """Makes the records of a stack's trials from the heads of their best epochs."""

    def __init__(self, plan: SearchPlan, model: MultiAttributeModel, features: Tensor) -> None:
        self._plan, self._model, self._features = plan, model.cpu().eval(), features
        self._targets, self._resamples = plan.val_targets(), plan.val_resamples()

    def __call__(self, number: int, values: Mapping[str, Any], trial: StackedTrial) -> TrialRecord:
        if trial.error is not None:
            return TrialRecord(
                number=number, values=values, status="failed", num_epochs=len(trial.history), error=trial.error
            )
        self._model.heads.load_state_dict(trial.heads)
        with torch.no_grad():
            outputs = self._model.apply_heads(self._features)
        metrics = Metrics(self._plan.inputs.attributes)
        metrics.add(outputs, self._targets)
        best = trial.history[trial.best_epoch]
        return TrialRecord(
            number=number,
            values=values,
            status="finished",
            judgement=self._plan.judge.judge(outputs, self._targets, self._resamples),
            best_epoch=trial.best_epoch,
            num_epochs=len(trial.history),
            figures={name[4:]: value for name, value in best.items() if name.startswith("val/")} | metrics.finish(),
        )


def _best_objective(records: Sequence[TrialRecord]) -> float:
    return max((each.judgement.objective for each in records if each.judgement is not None), default=float("nan"))


def _save_kept(
    plan: SearchPlan,
    model: MultiAttributeModel,
    configs: Sequence[TrainConfig],
    records: Sequence[TrialRecord],
    trials: Sequence[StackedTrial],
) -> None:
    """Saves the models of the stack's best trials, and of its front, that are kept beside the earlier trials."""
    wanted = {each.number for each in rank_finished(records)[: plan.keep]}
    wanted |= {each.number for each in find_front(records)} if plan.keep_front else set()
    for config, record, trial in zip(configs, records, trials, strict=True):
        if record.number in wanted and record.judgement is not None and is_kept(plan, record.judgement):
            model.heads.load_state_dict(trial.heads)
            save_trial_model(open_store(config.output, plan.inputs.storage), model, record.judgement)
