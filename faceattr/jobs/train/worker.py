"""What every worker of a training runs: its share of the images through `fit`; the first worker writes what is kept.

A worker that starts, for the first time or after a loss, goes on from the last checkpoint in the model folder.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch

from faceattr.config.train import TrainConfig
from faceattr.data.stores.open import open_store
from faceattr.data.stores.store import Store
from faceattr.devices import given_device
from faceattr.errors import ConfigError, DivergedError, FaceattrError, ModelError
from faceattr.jobs.cluster.cores import share_cores
from faceattr.jobs.cluster.metrics import TrainFigures
from faceattr.jobs.train.feed import Feed, FeedPlan
from faceattr.jobs.train.thresholds import fit_thresholds
from faceattr.models.multitask import MultiAttributeModel
from faceattr.models.saved import CONFIG_FILE, MODEL_FILES
from faceattr.training.assembly import build_stages
from faceattr.training.history import ProgressNote, write_history
from faceattr.training.inputs import TrainingInputs
from faceattr.training.loop.checkpoints import load_last_checkpoint, store_checkpoint
from faceattr.training.loop.fit import EpochBatches, fit
from faceattr.training.loop.forward import Forward
from faceattr.training.loop.ranks import join_ranks
from faceattr.training.loop.state import EpochRecord, FitResult, TrainingState

# Of the object store, over all workers: the rest is for others.
_STORE_SHARE = 0.4


@dataclass(frozen=True, kw_only=True)
class WorkerPlan:
    """What the workers need to know; the same for all, picklable.

    Attributes:
        config: of the training.
        inputs: packed runs and what is known of them.
        output_uri: the model folder.
    """

    config: TrainConfig
    inputs: TrainingInputs
    output_uri: str


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a worker ended: with a result, or with an error that no other try would get past."""

    result: FitResult | None = None
    error: FaceattrError | None = None


def train_worker(settings: dict[str, Any]) -> Ending:
    """Trains until the end; `settings["plan"]` is a WorkerPlan.

    Raises:
        FaceattrError: something broke that may be gone at the next try.
    """
    plan: WorkerPlan = settings["plan"]
    try:
        return Ending(result=_train(plan))
    except (ConfigError, ModelError, DivergedError) as error:
        # All workers come to the same conclusion. Raised, Ray Train would try again, time after time.
        return Ending(error=error)


def _train(plan: WorkerPlan) -> FitResult:
    config, context = plan.config, ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    device = given_device(config.workers.use_gpu, ray.train.torch.get_device)
    store = open_store(plan.output_uri, plan.inputs.storage)
    state = load_last_checkpoint(store)
    model = plan.inputs.build_model(config, pretrained=None if state is None else False)
    stages = build_stages(config, model)
    num_epochs = sum(stage.num_epochs for stage in stages)
    feed_plan = FeedPlan(inputs=plan.inputs, config=config, preprocessing=model.backbone.preprocessing)
    most_threads = max(1, (os.cpu_count() or 1) // context.get_local_world_size())
    cores = share_cores(
        model,
        feed_plan,
        num_workers=world_size,
        most_threads=most_threads,
        worker_cpus=config.workers.cpus_per_worker,
        threads=config.workers.threads or (None if device.type == "cpu" else most_threads),
    )
    torch.set_num_threads(cores.threads)
    feed = Feed(
        feed_plan,
        rank=rank,
        world_size=world_size,
        max_decoders=cores.decoders,
        store_share=_STORE_SHARE / world_size,
        pin=device.type == "cuda",
    )
    note = ProgressNote(store, num_epochs=num_epochs, num_batches=feed_plan.num_batches)

    def train_batches(epoch: int) -> Any:
        batches = feed.train_batches(epoch)
        return note.follow(batches, epoch=epoch, world_size=world_size) if rank == 0 else batches

    ranks = join_ranks(device, rank=rank, world_size=world_size)
    figures = TrainFigures() if rank == 0 else None

    def report(record: EpochRecord, state: TrainingState) -> None:
        if figures is not None:
            figures.show(record)
            store_checkpoint(store, state)
            write_history(store, state.history)
        ray.train.report(record)

    try:
        result = fit(
            model,
            EpochBatches(train=train_batches, val=feed.val_batches, num_train=feed_plan.num_batches),
            config.fit,
            counts=plan.inputs.counts,
            ranks=ranks,
            stages=stages,
            report=report,
            state=state,
        )
        criterion = config.thresholds.to_criterion()
        if criterion is not None:
            model.thresholds = fit_thresholds(
                model,
                feed.val_batches(),
                criterion,
                forward=Forward(model.backbone.preprocessing, precision=config.optim.precision, device=device),
                ranks=ranks,
            )
    finally:
        feed.close()
        if figures is not None:
            figures.close()
    if rank == 0:
        store_model(store, model)
    return result


def store_model(store: Store, model: MultiAttributeModel) -> None:
    """Writes the model's files to the root of the folder, `config.json` last."""
    with tempfile.TemporaryDirectory(prefix="faceattr-model-") as scratch:
        folder = Path(scratch) / "model"
        model.to("cpu").save_pretrained(folder)
        for name in sorted(MODEL_FILES, key=lambda each: each == CONFIG_FILE):
            store.put(name, (folder / name).read_bytes())
