"""One trial: a training from images or cached activations, judged after every epoch.

It runs in the process of the trial, or in each worker of a group. Every epoch is reported with its judgement, and at
the end the thresholds are written into the saved model.
"""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from faceattr.data.stores.open import open_store
from faceattr.data.stores.store import Store
from faceattr.jobs.cluster.milestones import reach
from faceattr.jobs.search.inputs import Inputs, SearchPlan, open_inputs
from faceattr.models.heads import count_outputs
from faceattr.models.multitask import MultiAttributeModel
from faceattr.models.saved import CONFIG_FILE, MODEL_FILES
from faceattr.search.comparison.front import dominates
from faceattr.search.comparison.ties import bound_objective
from faceattr.search.judge import Recorder
from faceattr.search.records import (
    JUDGEMENTS_KEY,
    Judgement,
    TrialRecord,
    TrialReport,
    load_judgements,
    read_records,
    save_judgements,
)
from faceattr.training.assembly import build_stages
from faceattr.training.features.feed import own_val_rows
from faceattr.training.loop.checkpoints import load_last_checkpoint, store_checkpoint
from faceattr.training.loop.fit import fit
from faceattr.training.loop.ranks import Ranks
from faceattr.training.loop.state import EpochRecord, TrainingState

ReportTrial = Callable[[dict[str, Any]], None]
TRIAL = "trial"


def train_trial(
    plan: SearchPlan,
    number: int,
    values: Mapping[str, Any],
    report: ReportTrial,
    *,
    ranks: Ranks,
) -> None:
    """Trains and judges one trial; saves its model if it is among those that are kept.

    Args:
        plan: plan of the search.
        number: number of the trial.
        values: settings of the trial, key -> value.
        report: receives numbers for Tune, and a `TrialReport` under `report`, after every epoch.
        ranks: this worker among the ranks of the trial.

    Raises:
        FaceattrError: the trial cannot be trained.
    """
    config = plan.config_of(number, values)
    store = open_store(config.output, plan.inputs.storage)
    state = load_last_checkpoint(store)
    model = plan.inputs.build_model(config)
    reach(TRIAL, "model loaded")
    stages = build_stages(config, model)
    num_epochs = sum(stage.num_epochs for stage in stages)
    inputs = open_inputs(plan, config, model, rank=ranks.rank, world_size=ranks.world_size)
    if inputs.threads is not None:
        torch.set_num_threads(inputs.threads)
    judged = _JudgedEpochs(plan, number, values, inputs, [] if state is None else load_judgements(store, state.epoch))
    outputs, checkpoints = _ValOutputs(model, plan, ranks), _Checkpoints(store, plan.trials.checkpoint_s)

    def after_epoch(record: EpochRecord, state: TrainingState) -> None:
        reach(TRIAL, "first epoch")
        judged.add(outputs.gather())
        # The last epoch is reported only after its model is saved: the scheduler may end the trial at a report.
        if state.epoch == num_epochs:
            return
        if ranks.rank == 0:
            checkpoints.save_when_due(judged.judgements, state)
        report(judged.report(state.selection["best_epoch"], state.history, done=False))

    try:
        result = fit(
            model,
            inputs.batches,
            config.fit,
            counts=plan.inputs.counts,
            ranks=ranks,
            stages=stages,
            network=lambda model: Recorder(inputs.wrap(model), outputs.kept),
            compiled=config.workers.compile == "on",
            report=after_epoch,
            state=state,
        )
    finally:
        inputs.feed.close()
    judgement = judged.judgements[result.best_epoch]
    if ranks.rank == 0 and is_kept(plan, judgement):
        save_trial_model(store, model, judgement)
    report(judged.report(result.best_epoch, result.history, done=True))


def is_kept(plan: SearchPlan, judgement: Judgement) -> bool:
    """Whether a trial is among the best ones, or on the front, of those that have finished so far."""
    records = read_records(open_store(plan.trials_uri, plan.inputs.storage))
    others = [each.judgement for each in records if each.status == "finished" and each.judgement is not None]
    if sum(each.objective > judgement.objective for each in others) < plan.keep:
        return True
    return plan.keep_front and not any(dominates(each, judgement) for each in others)


def save_trial_model(store: Store, model: MultiAttributeModel, judgement: Judgement) -> None:
    """Writes a model with its thresholds into a trial's folder."""
    model.thresholds = dict(judgement.thresholds)
    with tempfile.TemporaryDirectory(prefix="faceattr-trial-") as scratch:
        folder = Path(scratch) / "model"
        model.to("cpu").save_pretrained(folder)
        for name in sorted(MODEL_FILES, key=lambda each: each == CONFIG_FILE):
            store.put(name, (folder / name).read_bytes())


class _JudgedEpochs:
    """Judges the epochs of a trial, and makes the reports about them.

    Attributes:
        judgements: one per epoch.
    """

    def __init__(
        self, plan: SearchPlan, number: int, values: Mapping[str, Any], inputs: Inputs, judgements: list[Judgement]
    ) -> None:
        self._judge, self._targets, self._resamples = plan.judge, plan.val_targets(), plan.val_resamples()
        self._number, self._values, self._note = number, values, inputs.note
        self.judgements = judgements

    def add(self, outputs: Mapping[str, Tensor]) -> None:
        """Judges an epoch by the outputs [n, outputs] of all validation rows."""
        self.judgements.append(self._judge.judge(outputs, self._targets, self._resamples))

    def report(self, best_epoch: int, history: Sequence[EpochRecord], *, done: bool) -> dict[str, Any]:
        """Returns plain numbers for Tune's scheduler and for TensorBoard, and a `TrialReport` for the driver."""
        best = self.judgements[best_epoch]
        record = TrialRecord(
            number=self._number,
            values=self._values,
            status="finished" if done else "stopped",
            judgement=best,
            best_epoch=best_epoch,
            num_epochs=len(self.judgements),
            figures={name[4:]: value for name, value in history[best_epoch].items() if name.startswith("val/")},
            history=tuple(each.objective for each in self.judgements),
            bounds=tuple(map(bound_objective, self.judgements)),
            inputs=self._note,
        )
        shown = best if done else self.judgements[-1]
        low, high = bound_objective(shown)
        return {
            "epoch": len(self.judgements),
            "objective": shown.objective,
            "low": low,
            "high": high,
            "auxiliary": shown.auxiliary if shown.auxiliary is not None else float("nan"),
            "loss": history[-1]["val/loss"],
            "done_training": done,
            "report": TrialReport(records=(record,), state="over" if done else "running").encode(),
        }


class _Checkpoints:
    """Saves checkpoints of a running trial, so that it can resume: after an epoch, if the last is old enough."""

    def __init__(self, store: Store, interval_s: float) -> None:
        self._store, self._interval_s = store, interval_s
        self._saved_s = time.monotonic()

    def save_when_due(self, judgements: Sequence[Judgement], state: TrainingState) -> None:
        if time.monotonic() - self._saved_s <= self._interval_s:
            return
        # The judgements first: a trial cannot resume from a checkpoint without them.
        save_judgements(self._store, judgements)
        store_checkpoint(self._store, state)
        self._saved_s = time.monotonic()


class _ValOutputs:
    """Gathers the outputs of all validation rows, in order, from the batches of all workers.

    Attributes:
        kept: outputs of this worker's batches, in order, since the last gathering.
    """

    def __init__(self, model: MultiAttributeModel, plan: SearchPlan, ranks: Ranks) -> None:
        survey, heads = plan.inputs.surveys["val"], model.head_configs
        self._rows = torch.from_numpy(own_val_rows(survey, rank=ranks.rank, world_size=ranks.world_size))
        self._num_rows, self._reduce = survey.stretches.total_rows, ranks.reduce
        self.kept: list[dict[str, Tensor]] = []
        self._sizes = {each.name: count_outputs(each, heads[each.name]) for each in model.attributes.attributes}

    def gather(self) -> dict[str, Tensor]:
        """Returns attribute name -> float32 [num_rows, outputs], the same on all workers, and clears `kept`."""
        found = {}
        for name, size in self._sizes.items():
            whole = torch.zeros(self._num_rows, size, dtype=torch.float64)
            if self.kept:
                whole[self._rows] = torch.cat([batch[name] for batch in self.kept]).double()
            found[name] = self._reduce(whole).float()
        self.kept.clear()
        return found


def discard_progress(store: Store, folder: str) -> None:
    """Removes what only an unfinished trial needs; `folder` is the folder of its model, relative to the store."""
    for key in [entry.key for entry in store.list(f"{folder}/checkpoints/")]:
        store.delete(key)
    store.delete(f"{folder}/{JUDGEMENTS_KEY}")
