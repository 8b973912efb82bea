"""What every trial of a search knows, and what it reads: cached activations if it can use them, else images."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import torch
from torch import nn

from faceattr.config.overrides import override
from faceattr.config.search import FeaturesConfig, TrialsConfig
from faceattr.config.train import TrainConfig
from faceattr.data.stores.keys import join_uri
from faceattr.evaluation.uncertainty.clusters import read_clusters
from faceattr.jobs.cluster.machines.cores import CoreShare, share_cores
from faceattr.jobs.search.fill_cache import FeatureSource
from faceattr.jobs.train.feed import Feed, FeedPlan
from faceattr.models.backbones.class_token import ClassTokenSuffix, reads_class_token
from faceattr.models.freezing import Suffix
from faceattr.models.multitask import MultiAttributeModel
from faceattr.search.cache_choice import CachePlan, CacheUse, choose_cache
from faceattr.search.comparison.draws import Resamples
from faceattr.search.judge import Judge
from faceattr.search.records import trial_folder
from faceattr.training.features.cache import features_uri, open_features
from faceattr.training.features.feed import FeatureFeed, read_labels
from faceattr.training.inputs import TrainingInputs
from faceattr.training.loop.fit import EpochBatches
from faceattr.training.targets import Targets, read_targets

MODEL_FOLDER = "model"


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """What every trial needs to know; picklable.

    Attributes:
        base: settings that the trials share.
        inputs: packed runs and what is known of them.
        output_uri: folder of the search, with the caches.
        trials_uri: folder of these trials: that of the search, or that of repeats.
        keep: number of best trials whose model is kept until the end.
        keep_front: whether the models of the Pareto front are kept too.
        judge: judge of the trials.
        caches: the caches that were filled.
        features: settings of the caches.
        trials: resources of a trial.
        num_concurrent: trials that read images at the same time; 1 if unknown.
    """

    base: TrainConfig
    inputs: TrainingInputs
    output_uri: str
    trials_uri: str
    judge: Judge
    caches: CachePlan
    features: FeaturesConfig
    trials: TrialsConfig
    keep: int = 1
    keep_front: bool = False
    num_concurrent: int = 1

    @property
    def source(self) -> FeatureSource:
        """The source of the caches' activations."""
        return FeatureSource(config=self.base, inputs=self.inputs, root_uri=self.output_uri, settings=self.features)

    def config_of(self, number: int, values: Mapping[str, Any]) -> TrainConfig:
        """Returns the train config of a trial.

        Raises:
            ConfigError: the values cannot be combined.
        """
        output = join_uri(self.trials_uri, f"{trial_folder(number)}/{MODEL_FOLDER}")
        return override(self.base, {**values, "output": output})

    def val_targets(self) -> dict[str, Targets]:
        """Reads the labels of all validation rows, in order."""
        attributes = self.inputs.attributes
        return read_targets(read_labels(self.inputs.data, "val", attributes), attributes)

    def val_resamples(self) -> Resamples:
        """Draws the resamples of the validation rows, the same for all trials; rows of one group stay together."""
        data = self.inputs.data
        columns = [name for name in ("group", "sha256") if name in data.schema.names]
        table = pa.concat_tables(data.iter_split("val", columns)) if columns else pa.table({})
        num_rows = self.inputs.surveys["val"].stretches.total_rows
        return self.judge.draw_resamples(num_rows, read_clusters(table) if columns else None)


@dataclass(kw_only=True)
class Inputs:
    """What a trial reads.

    Attributes:
        feed: the feed of batches.
        boundary: depth where its network begins; None for images.
        note: what is read and why, for the record.
        threads: CPU threads of the network; None leaves the number as it is.
    """

    feed: FeatureFeed | Feed
    boundary: int | None
    note: str
    threads: int | None = None

    @property
    def batches(self) -> EpochBatches:
        """The batches for `fit`."""
        batches = EpochBatches(
            train=self.feed.train_batches, val=self.feed.val_batches, num_train=self.feed.num_batches
        )
        return replace(batches, on_device=self.feed.finish_views) if isinstance(self.feed, Feed) else batches

    def wrap(self, model: MultiAttributeModel) -> nn.Module:
        """Returns the module that inputs go through."""
        if self.boundary is None:
            return model
        suffix = ClassTokenSuffix if reads_class_token(model.backbone) else Suffix
        return suffix(model, self.boundary)


def open_inputs(
    plan: SearchPlan, config: TrainConfig, model: MultiAttributeModel, *, rank: int = 0, world_size: int = 1
) -> Inputs:
    """Opens cached activations if there are any for this trial, else images."""
    fingerprint = plan.inputs.data_fingerprint
    use = choose_cache(config, model, plan.caches, plan.features, data_fingerprint=fingerprint)
    if isinstance(use, CacheUse):
        feed = open_cache(plan, config, use, rank=rank, world_size=world_size)
        if feed is not None:
            note = f"features before block {use.boundary}"
            return Inputs(feed=feed, boundary=use.boundary, note=note)
        use = "no cache has the keys of this trial's frozen blocks"
    feed_plan = FeedPlan(inputs=plan.inputs, config=config, preprocessing=model.backbone.preprocessing)
    cores = _share_cores(plan, model, feed_plan, world_size)
    on_gpu = plan.trials.gpus > 0 and torch.cuda.is_available()
    images = Feed(
        feed_plan,
        rank=rank,
        world_size=world_size,
        max_decoders=cores.decoders,
        num_feeds=world_size * (plan.trials.max_concurrent or 1),
        pin=on_gpu,
        crops_only=on_gpu,
    )
    return Inputs(feed=images, boundary=None, note=f"images: {use}", threads=cores.threads)


def _share_cores(plan: SearchPlan, model: MultiAttributeModel, feed_plan: FeedPlan, world_size: int) -> CoreShare:
    """Returns the cores of one worker of one trial, next to other trials that run at the same time."""
    trials, workers = plan.trials, plan.base.workers
    if world_size > 1:
        threads = workers.threads or (torch.get_num_threads() if workers.use_gpu else None)
        worker_cpus = workers.cpus_per_worker + trials.cpus / world_size
    else:
        threads, worker_cpus = trials.threads or (max(1, int(trials.cpus)) if trials.gpus else None), trials.cpus
    return share_cores(
        model,
        feed_plan,
        num_workers=world_size * plan.num_concurrent,
        most_threads=os.cpu_count() or 1,
        worker_cpus=worker_cpus,
        threads=threads,
    )


def open_cache(
    plan: SearchPlan, config: TrainConfig, use: CacheUse, *, rank: int = 0, world_size: int = 1
) -> FeatureFeed | None:
    """Opens the batches of cached activations; None if a cache is missing."""
    opened = [open_features(features_uri(plan.output_uri, key), plan.inputs.storage) for key in (*use.train, use.val)]
    views = [each["train"] for each in opened[:-1] if each is not None and "train" in each]
    val = opened[-1]
    if len(views) < len(use.train) or val is None or "val" not in val:
        return None
    return FeatureFeed(views, val["val"], plan.inputs, config, rank=rank, world_size=world_size)
