"""The function of every worker of a training: `fit` on its share of the images; the first worker writes the files.

A worker that starts, for the first time or after a loss, resumes from the last checkpoint in the model folder. The best
model so far is in the folder before the checkpoint of its epoch, so that it can be used whenever the training stops.
"""

import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch

from faceattr.config.train import TrainConfig
from faceattr.data.stores.open import open_store
from faceattr.data.stores.store import Store
from faceattr.devices import given_device
from faceattr.errors import ConfigError, DivergedError, ModelError
from faceattr.jobs.cluster.machines.cores import share_cores
from faceattr.jobs.cluster.metrics import TrainFigures
from faceattr.jobs.cluster.milestones import reach
from faceattr.jobs.train.ending import Ending
from faceattr.jobs.train.feed import Feed, FeedPlan
from faceattr.models.lora.merging import merged_copy
from faceattr.models.multitask import MultiAttributeModel
from faceattr.models.saved import write_model
from faceattr.models.saved_config import CONFIG_FILE, MODEL_FILES, UnfinishedModel
from faceattr.training.assembly import build_stages
from faceattr.training.history import ProgressNote, write_history
from faceattr.training.inputs import TrainingInputs
from faceattr.training.lineage.origin import Origin
from faceattr.training.loop.checkpoints import load_last_checkpoint, load_stored_checkpoint, store_checkpoint
from faceattr.training.loop.fit import EpochBatches, fit
from faceattr.training.loop.forward import Forward
from faceattr.training.loop.ranks import Ranks, join_ranks
from faceattr.training.loop.state import EpochRecord, FitResult, Kept, TrainingState
from faceattr.training.targets import Batch

_PROCESS = "train worker"


@dataclass(frozen=True, kw_only=True)
class WorkerPlan:
    """What the workers need to know; the same for all, picklable.

    Attributes:
        config: the training's config.
        inputs: packed runs and what is known of them.
        output_uri: the model folder.
        origin: the checkpoint of another training from which it starts.
    """

    config: TrainConfig
    inputs: TrainingInputs
    output_uri: str
    origin: Origin | None = None


def train_worker(settings: dict[str, Any]) -> Ending:
    """Trains until the end; `settings["plan"]` is a WorkerPlan.

    Raises:
        FaceattrError: a failure that may be gone at the next try.
    """
    plan: WorkerPlan = settings["plan"]
    try:
        return Ending(result=_train(plan))
    except (ConfigError, ModelError, DivergedError) as error:
        # All workers conclude the same. Returned, not raised: Ray Train would retry an error that cannot go away.
        return Ending(error=error)


def _train(plan: WorkerPlan) -> FitResult:
    reach(_PROCESS, "imports done")
    config, context = plan.config, ray.train.get_context()
    store = open_store(plan.output_uri, plan.inputs.storage)
    state = load_last_checkpoint(store)
    origin = _load_origin(plan) if state is None else None
    model = plan.inputs.build_model(config, pretrained=None if state is None and origin is None else False)
    stages = build_stages(config, model)
    reach(_PROCESS, "model loaded")
    device = given_device(config.workers.use_gpu, ray.train.torch.get_device)
    ranks = join_ranks(device, rank=context.get_world_rank(), world_size=context.get_world_size())
    feed = _open_feed(plan, model, ranks, local_world_size=context.get_local_world_size())
    figures = TrainFigures() if ranks.rank == 0 else None

    def report(record: EpochRecord, state: TrainingState) -> None:
        if figures is not None:
            figures.show(record)
            store_checkpoint(store, state)
            write_history(store, state.history)
        ray.train.report(record)

    criterion = config.thresholds.to_criterion()

    def choose_thresholds(trained: MultiAttributeModel) -> dict[str, float] | None:
        if criterion is None:
            return None
        from faceattr.jobs.train.thresholds import fit_thresholds  # noqa: PLC0415 - late: sklearn

        forward = Forward(trained.backbone.preprocessing, precision=config.optim.precision, device=device)
        return fit_thresholds(trained, feed.val_batches(), criterion, forward=forward, ranks=ranks)

    def publish(best: MultiAttributeModel, epoch: int, num_epochs: int) -> None:
        thresholds = choose_thresholds(best)
        if ranks.rank == 0:
            unfinished = UnfinishedModel(weights_id=uuid.uuid4().hex, epoch=epoch, num_epochs=num_epochs)
            store_model(store, best, thresholds=thresholds, unfinished=unfinished)

    try:
        result = fit(
            model,
            _note_progress(feed, store, config.optim.epochs, ranks),
            config.fit,
            counts=plan.inputs.counts,
            ranks=ranks,
            stages=stages,
            compiled=config.workers.compile == "on",
            report=report,
            improved=publish,
            state=state,
            origin=origin,
        )
        thresholds = choose_thresholds(model)
    finally:
        feed.close()
        if figures is not None:
            figures.close()
    if ranks.rank == 0:
        store_model(store, model, thresholds=thresholds)
    return result


def _load_origin(plan: WorkerPlan) -> tuple[TrainingState, Kept] | None:
    if plan.origin is None:
        return None
    there = open_store(plan.origin.uri, plan.inputs.storage)
    return load_stored_checkpoint(there, plan.origin.epoch), plan.origin.kept


def _open_feed(plan: WorkerPlan, model: MultiAttributeModel, ranks: Ranks, *, local_world_size: int) -> Feed:
    """Opens the feed of this worker, and sets its network's threads, next to the tasks that decode.

    Args:
        plan: plan of the training.
        model: the model that is trained, on the CPU.
        ranks: this worker among the ranks of the training.
        local_world_size: number of workers on this machine.
    """
    workers, on_cpu = plan.config.workers, ranks.device.type == "cpu"
    feed_plan = FeedPlan(inputs=plan.inputs, config=plan.config, preprocessing=model.backbone.preprocessing)
    most_threads = max(1, (os.cpu_count() or 1) // local_world_size)
    cores = share_cores(
        model,
        feed_plan,
        num_workers=ranks.world_size,
        most_threads=most_threads,
        worker_cpus=workers.cpus_per_worker,
        threads=workers.threads or (None if on_cpu else most_threads),
    )
    torch.set_num_threads(cores.threads)
    return Feed(
        feed_plan,
        rank=ranks.rank,
        world_size=ranks.world_size,
        max_decoders=cores.decoders,
        num_feeds=ranks.world_size,
        pin=not on_cpu,
        crops_only=not on_cpu,
    )


def _note_progress(feed: Feed, store: Store, num_epochs: int, ranks: Ranks) -> EpochBatches:
    """Returns the batches of a feed; the first worker writes into the model folder how many have passed."""
    note = ProgressNote(store, num_epochs=num_epochs, num_batches=feed.num_batches)

    def train(epoch: int) -> Iterator[Batch]:
        batches = _note_first_step(feed.train_batches(epoch))
        return note.follow(batches, epoch=epoch, world_size=ranks.world_size) if ranks.rank == 0 else batches

    return EpochBatches(train=train, val=feed.val_batches, num_train=feed.num_batches, on_device=feed.finish_views)


def _note_first_step(batches: Iterator[Batch]) -> Iterator[Batch]:
    for batch in batches:
        reach(_PROCESS, "first batch")
        yield batch
        reach(_PROCESS, "first step")


def store_model(
    store: Store,
    model: MultiAttributeModel,
    *,
    thresholds: Mapping[str, float] | None = None,
    unfinished: UnfinishedModel | None = None,
) -> None:
    """Writes the model's files to the root of the folder, `config.json` last; the model is not changed.

    Args:
        store: the model folder.
        model: the model, on any device.
        thresholds: thresholds to save with it; by default its own.
        unfinished: what the files say if the training goes on.
    """
    config = replace(model.config, unfinished=unfinished)
    if thresholds is not None:
        config = replace(config, thresholds=thresholds)
    with tempfile.TemporaryDirectory(prefix="faceattr-model-") as scratch:
        folder = Path(scratch) / "model"
        write_model(folder, config, merged_copy(model).state_dict())
        for name in sorted(MODEL_FILES, key=lambda each: each == CONFIG_FILE):
            store.put(name, (folder / name).read_bytes())
