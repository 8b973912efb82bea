"""One trial: a training from images or cached activations, judged after every epoch.

It runs in the process of the trial, or as one of the workers of a group; either way each epoch is reported with what it
is worth, and at the end the thresholds go into the saved model.
"""

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from faceattr.data.json_files import damage_named, decode_versioned, encode_versioned
from faceattr.data.json_text import encode_json
from faceattr.data.storage import Store, join_uri, open_store
from faceattr.jobs.search_inputs import Inputs, SearchPlan, open_inputs
from faceattr.jobs.train_worker import distribute_network
from faceattr.models.heads import count_outputs
from faceattr.models.model_files import CONFIG_FILE, FILE_PATTERNS
from faceattr.models.multitask import MultiAttributeModel
from faceattr.search.objective import Recorder
from faceattr.search.records import Judgement, best_trial, decode_judgement, read_records
from faceattr.training.assembly import build_stages
from faceattr.training.checkpoint_store import load_last_checkpoint, store_checkpoint
from faceattr.training.feature_feed import own_val_rows
from faceattr.training.loop import fit
from faceattr.training.order import Indices
from faceattr.training.ranks import Reduce, no_reduce
from faceattr.training.state import EpochRecord, TrainingState

_PROGRESS_KEY = "progress.json"

ReportTrial = Callable[[dict[str, Any]], None]


@dataclass(kw_only=True)
class _Progress:
    """Judgements of the epochs so far; kept beside checkpoints."""

    judgements: list[Judgement] = field(default_factory=list)

    def save(self, store: Store) -> None:
        store.put(_PROGRESS_KEY, encode_versioned({"judgements": [asdict(each) for each in self.judgements]}))

    @classmethod
    def load(cls, store: Store, num_epochs: int) -> "_Progress":
        with damage_named(where := join_uri(store.uri, _PROGRESS_KEY)):
            data = store.get(_PROGRESS_KEY)
            # Before formats had versions, the file was the list alone.
            found = json.loads(data) if data.startswith(b"[") else decode_versioned(data, where)["judgements"]
            return cls(judgements=[decode_judgement(each) for each in found[:num_epochs]])


def train_trial(
    plan: SearchPlan,
    number: int,
    values: Mapping[str, Any],
    report: ReportTrial,
    *,
    device: torch.device,
    rank: int = 0,
    world_size: int = 1,
    reduce: Reduce = no_reduce,
) -> None:
    """Trains and judges one trial; its model is saved if no trial before it was better.

    Args:
        plan: of the search.
        number: of the trial.
        values: key -> value.
        report: gets what `faceattr.search.board` reads, after every epoch and at the end.
        device: that is computed on.
        rank: of this worker.
        world_size: workers of the trial.
        reduce: sum over them.

    Raises:
        FaceattrError: the trial cannot be trained.
    """
    config = plan.config_of(number, values)
    store = open_store(config.output, plan.storage)
    state = load_last_checkpoint(store)
    model = plan.build_model(config)
    stages = build_stages(config, model)
    num_epochs = sum(stage.num_epochs for stage in stages)
    inputs = open_inputs(plan, config, model, rank=rank, world_size=world_size)
    if inputs.threads is not None:
        torch.set_num_threads(inputs.threads)
    targets = plan.val_targets()
    own_rows = own_val_rows(plan.surveys["val"], rank=rank, world_size=world_size)
    progress = _Progress() if state is None else _Progress.load(store, state.epoch)
    kept: list[dict[str, Tensor]] = []
    outputs_of = _Gather(model, own_rows, len(next(iter(targets.values()))), reduce)
    saved_s = time.monotonic()

    def after_epoch(record: EpochRecord, state: TrainingState) -> None:
        nonlocal saved_s
        progress.judgements.append(plan.judge.judge(outputs_of(kept), targets))
        kept.clear()
        if rank == 0 and time.monotonic() - saved_s > plan.trials.checkpoint_s and state.epoch < num_epochs:
            # The judgements first: a checkpoint without them could not be gone on from.
            progress.save(store)
            store_checkpoint(store, state)
            saved_s = time.monotonic()
        # The end of the last epoch is reported once its model is safe: the scheduler may end the trial at a report.
        if state.epoch < num_epochs:
            report(_describe(progress, state.selection["best_epoch"], state.history, inputs, done=False))

    try:
        result = fit(
            model,
            inputs.feed.train_batches,
            inputs.feed.val_batches,
            config.fit,
            counts=plan.counts,
            steps_per_epoch=-(-inputs.num_batches // config.optim.accumulation),
            device=device,
            stages=stages,
            reduce=reduce,
            rank=rank,
            network=lambda model: Recorder(inputs.wrap(model), kept),
            distribute=lambda network: distribute_network(network, world_size, device),
            report=after_epoch,
            state=state,
        )
    finally:
        inputs.feed.close()
    judgement = progress.judgements[result.best_epoch]
    if rank == 0 and is_best(plan, judgement):
        save_trial_model(store, model, judgement)
    report(_describe(progress, result.best_epoch, result.history, inputs, done=True))


def is_best(plan: SearchPlan, judgement: Judgement) -> bool:
    """Whether no finished trial has a better objective."""
    best = best_trial(read_records(open_store(plan.output_uri, plan.storage)))
    return best is None or best.judgement is None or judgement.objective >= best.judgement.objective


def save_trial_model(store: Store, model: MultiAttributeModel, judgement: Judgement) -> None:
    """Writes a model with its thresholds into a trial's folder."""
    model.thresholds = dict(judgement.thresholds)
    with tempfile.TemporaryDirectory(prefix="faceattr-trial-") as scratch:
        folder = Path(scratch) / "model"
        model.to("cpu").save_pretrained(folder)
        for name in sorted(FILE_PATTERNS, key=lambda each: each == CONFIG_FILE):
            store.put(name, (folder / name).read_bytes())


def _describe(
    progress: _Progress, best_epoch: int, history: list[EpochRecord], inputs: Inputs, *, done: bool
) -> dict[str, Any]:
    """What is reported: plain numbers for Tune, and the rest as JSON."""
    best, last = progress.judgements[best_epoch], progress.judgements[-1]
    figures = {name[4:]: value for name, value in history[best_epoch].items() if name.startswith("val/")}
    payload = {
        "judgement": asdict(best),
        "best_epoch": best_epoch,
        "figures": figures,
        "history": [each.objective for each in progress.judgements],
        "inputs": inputs.note,
    }
    shown = best if done else last
    return {
        "epoch": len(progress.judgements),
        "objective": shown.objective,
        "auxiliary": shown.auxiliary if shown.auxiliary is not None else float("nan"),
        "loss": history[-1]["val/loss"],
        "done_training": done,
        "payload": encode_json(payload),
    }


class _Gather:
    """Outputs of all validation rows in order, from those of each worker's batches."""

    def __init__(self, model: MultiAttributeModel, rows: Indices, num_rows: int, reduce: Reduce) -> None:
        self._rows, self._num_rows, self._reduce = torch.from_numpy(rows), num_rows, reduce
        heads = model.head_configs
        self._sizes = {each.name: count_outputs(each, heads[each.name]) for each in model.attributes.attributes}

    def __call__(self, batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Attribute name -> float32 [num_rows, outputs]; the same on all workers."""
        found = {}
        for name, size in self._sizes.items():
            whole = torch.zeros(self._num_rows, size, dtype=torch.float64)
            if batches:
                whole[self._rows] = torch.cat([batch[name] for batch in batches]).double()
            found[name] = self._reduce(whole).float()
        return found


def discard_progress(store: Store, folder: str) -> None:
    """Removes what only an unfinished trial needs; `folder` is that of its model, below the store."""
    for key in [entry.key for entry in store.list(f"{folder}/checkpoints/")]:
        store.delete(key)
    store.delete(f"{folder}/{_PROGRESS_KEY}")
