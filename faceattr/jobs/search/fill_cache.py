"""Fills a feature cache: images -> frozen blocks -> files of activations, each image once, by Ray Data.

    missing chunks -> read + decode (CPU tasks) -> ComputeFeatures actor: forward, one file per boundary

One pass fills the caches of all boundaries of a view: a deeper one starts from the activations of the one before.
Chunks that exist already are not computed again.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import ray
import ray.data
import torch
from torch import Tensor, nn

from faceattr.config.search import FeaturesConfig
from faceattr.config.train import TrainConfig
from faceattr.data.packed.reader import PackedData
from faceattr.data.stores.open import open_store
from faceattr.data.stores.store import Store
from faceattr.devices import given_device
from faceattr.errors import RunError
from faceattr.jobs.train.decode import PIXELS, decode_views
from faceattr.jobs.train.stages import IMAGE, read_stretch
from faceattr.models.augment.draws import image_seed
from faceattr.models.augment.train import AS_STORED, TrainTransform
from faceattr.models.backbones.preprocessing import Preprocessing
from faceattr.models.freezing import freeze, split_at
from faceattr.models.multitask import MultiAttributeModel
from faceattr.search.backbone_cuts import BackboneCuts
from faceattr.search.cache_choice import boundary_keys
from faceattr.training.features.cache import (
    FeatureChunk,
    cut_parts,
    features_uri,
    missing_parts,
    publish_features,
    read_feature_manifest,
    write_part,
)
from faceattr.training.features.key import FeatureKey, View
from faceattr.training.inputs import TrainingInputs
from faceattr.training.label_survey import SplitSurvey
from faceattr.training.loop.forward import Forward

logger = logging.getLogger(__name__)

_READ_CPUS = 0.25
_ACTOR_CPUS = 0.5
# Bytes of decoded images in a chunk, which travel between two stages in one piece.
_PART_BYTES = 32 * 2**20
_MOST_PART_ROWS = 1_024


@dataclass(frozen=True, kw_only=True)
class FeatureSource:
    """Where activations come from; the same for all workers, picklable.

    Attributes:
        config: config of the network; only what determines its frozen blocks matters.
        inputs: packed runs and what is known of them.
        root_uri: folder of the search; caches are in its `features/`.
        settings: settings of the cache.
    """

    config: TrainConfig
    inputs: TrainingInputs
    root_uri: str
    settings: FeaturesConfig

    def build_model(self) -> MultiAttributeModel:
        """Builds the network as it is before its first step, with all blocks frozen."""
        model = self.inputs.build_model(self.config)
        freeze(model, "all")
        return model.eval()


@dataclass(frozen=True, kw_only=True)
class FeatureTask:
    """The caches that one pass fills.

    Attributes:
        splits: names of the splits whose images are used.
        keys: one per boundary, ascending; all of one view.
    """

    splits: tuple[str, ...]
    keys: tuple[FeatureKey, ...]


def plan_feature_tasks(
    source: FeatureSource, boundaries: Sequence[int], *, plain: bool, num_views: int
) -> list[FeatureTask]:
    """Plans the passes that a search needs: images as they are, and each random view of the training images."""
    model = source.build_model()
    tasks = []
    for view in (None, *range(num_views)):
        keys = [
            boundary_keys(
                source.config,
                model,
                boundary,
                source.settings,
                data_fingerprint=source.inputs.data_fingerprint,
                views=[view],
            )[0]
            for boundary in sorted(boundaries)
        ]
        splits = ("train",) if view is not None else ("train", "val") if plain else ("val",)
        tasks.append(FeatureTask(splits=splits, keys=tuple(keys)))
    return tasks


def fill_features(source: FeatureSource, task: FeatureTask, facts: BackboneCuts, *, gpus: float) -> int:
    """Computes the missing chunks of some caches and publishes the caches.

    Args:
        source: where activations come from.
        task: the caches to fill.
        facts: facts about the network, for the shapes.
        gpus: GPUs per actor; 0 computes on CPUs.

    Returns:
        Number of images that were computed.

    Raises:
        RunError: an image or a file cannot be read.
    """
    stores = {key.boundary: open_store(features_uri(source.root_uri, key), source.inputs.storage) for key in task.keys}
    unpublished = [key for key in task.keys if read_feature_manifest(stores[key.boundary]) is None]
    if not unpublished:
        return 0
    side = task.keys[0].preprocessing.size_px
    part_rows = int(min(_MOST_PART_ROWS, max(1, _PART_BYTES // (3 * side * side))))
    parts = [
        part
        for split in task.splits
        for part in cut_parts(split, source.inputs.surveys[split].stretches.total_rows, part_rows)
    ]
    missing = {part for key in unpublished for part in missing_parts(stores[key.boundary], parts)}
    ordered = [part for part in parts if part in missing]
    num_rows = sum(part.num_rows for part in ordered)
    logger.info("features parts=%d rows=%d boundaries=%s", len(ordered), num_rows, list(stores))
    if ordered:
        _compute(source, task, ordered, gpus=gpus)
    for key in unpublished:
        publish_features(stores[key.boundary], key, facts.boundaries[key.boundary].shape, parts)
    return num_rows


def _compute(source: FeatureSource, task: FeatureTask, parts: Sequence[FeatureChunk], *, gpus: float) -> None:
    cluster = ray.cluster_resources()
    num = int(cluster.get("GPU", 0.0) / gpus) if gpus else int(cluster.get("CPU", 1.0))
    num = min(source.settings.actors or max(1, num), len(parts))
    key = task.keys[0]
    decode = DecodeParts(inputs=source.inputs, preprocessing=key.preprocessing, view=key.view)
    items = [{"split": part.split, "number": part.number, "start": part.start, "rows": part.num_rows} for part in parts]
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = False
    dataset = (
        ray.data.from_items(items, override_num_blocks=len(items))
        .map_batches(decode, batch_size=None, batch_format="pyarrow", num_cpus=_READ_CPUS)
        .map_batches(
            ComputeFeatures,
            fn_constructor_kwargs={"source": source, "task": task, "on_gpu": gpus > 0},
            batch_size=1,  # Ray Data requires a number with GPUs; a row is a chunk
            batch_format="pyarrow",
            num_gpus=gpus or None,
            num_cpus=_ACTOR_CPUS if not gpus else 0,
            compute=ray.data.ActorPoolStrategy(size=num),
        )
    )
    dataset.set_name("faceattr_features")
    done = sum(
        sum(table["rows"].to_pylist()) for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow")
    )
    wanted = sum(part.num_rows for part in parts)
    if done != wanted:
        raise RunError(f"{wanted - done} images of the feature cache were not computed; run the same command again")


@dataclass(frozen=True, kw_only=True)
class DecodeParts:
    """Chunks -> their images, uint8 [n, 3, S, S] as one binary value, one row per chunk.

    Attributes:
        inputs: packed runs and what is known of them.
        preprocessing: preprocessing of the backbone.
        view: number of the random view; None for images as they are.
    """

    inputs: TrainingInputs
    preprocessing: Preprocessing
    view: View | None

    def __call__(self, items: pa.Table) -> pa.Table:
        """Returns one row; columns: split, number, start, rows, pixels."""
        (item,) = items.to_pylist()
        torch.set_num_threads(1)  # many tasks run at the same time
        split = item["split"]
        encoded = read_images(self.inputs.data, split, self.inputs.surveys[split], item["start"], item["rows"])
        view, rows = self.view, range(item["start"], item["start"] + item["rows"])
        if view is None:
            transform, seeds = TrainTransform(self.preprocessing, AS_STORED), [0] * len(rows)
        else:
            transform = TrainTransform(self.preprocessing, view.augment)
            seeds = [image_seed(view.seed, epoch=view.number, row=row) for row in rows]
        pixels = decode_views(encoded, transform, seeds, size_px=self.preprocessing.size_px)
        return items.append_column(PIXELS, pa.array([pixels.tobytes()], pa.large_binary()))


def read_images(data: PackedData, split: str, survey: SplitSurvey, start: int, num_rows: int) -> Iterator[bytes]:
    """Yields the encoded images of some rows of a split, with one row group in memory at a time."""
    ends = np.cumsum(survey.stretches.num_rows)
    stretch = int(np.searchsorted(ends, start, side="right"))
    row, end = start, start + num_rows
    while row < end:
        images = read_stretch(data, split, survey, stretch, [IMAGE])[IMAGE]
        wanted = images.slice(row - int(ends[stretch] - survey.stretches.num_rows[stretch]), end - row)
        yield from (image.as_py() for image in wanted)
        row += len(wanted)
        stretch += 1


class ComputeFeatures:
    """Runs the images of a chunk through the frozen blocks, and writes a file per boundary."""

    def __init__(self, *, source: FeatureSource, task: FeatureTask, on_gpu: bool) -> None:
        """Builds the network, and checks that it is the network of the keys."""
        self._device = given_device(on_gpu)
        torch.set_num_threads(1)
        model = source.build_model()
        for key in task.keys:
            (found,) = boundary_keys(
                source.config,
                model,
                key.boundary,
                source.settings,
                data_fingerprint=key.data_fingerprint,
                views=[None if key.view is None else key.view.number],
            )
            if found != key:
                raise RunError(
                    "the network of a worker is not the one that the search was planned with; its weights or libraries "
                    "differ from the driver's"
                )
        self._keys = task.keys
        self._stores: dict[int, Store] = {
            key.boundary: open_store(features_uri(source.root_uri, key), source.inputs.storage) for key in task.keys
        }
        self._blocks = _FrozenBlocks(model, [key.boundary for key in task.keys]).to(self._device)
        self._forward = Forward(
            model.backbone.preprocessing, precision=source.config.optim.precision, device=self._device
        )
        self._batch_size = source.settings.batch_size or (256 if self._device.type == "cuda" else 32)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Returns one row: split, number, rows."""
        (item,) = table.drop_columns([PIXELS]).to_pylist()
        part = FeatureChunk(split=item["split"], number=item["number"], start=item["start"], num_rows=item["rows"])
        side = self._keys[0].preprocessing.size_px
        pixels = np.frombuffer(table[PIXELS][0].as_buffer(), np.uint8).reshape(-1, 3, side, side)
        found: list[dict[str, Tensor]] = []
        for start in range(0, len(pixels), self._batch_size):
            images = torch.from_numpy(pixels[start : start + self._batch_size].copy()).to(self._device)
            found.append({name: x.float().cpu() for name, x in self._forward(self._blocks, images).items()})
        for key in self._keys:
            activations = torch.cat([each[str(key.boundary)] for each in found])
            write_part(self._stores[key.boundary], part, activations, key.dtype)
        return pa.table({"split": [part.split], "number": [part.number], "rows": [part.num_rows]})


class _FrozenBlocks(nn.Module):
    """Maps images to {depth: activations} at several boundaries; a deeper one continues from the one before.

    A frozen model is in eval mode and runs without gradient.
    """

    def __init__(self, model: MultiAttributeModel, boundaries: Sequence[int]) -> None:
        super().__init__()
        self._boundaries = tuple(boundaries)
        self.prefix, _ = split_at(model, boundaries[0])
        self._backbone = model.backbone

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x, reached = self.prefix(images), self._boundaries[0]
        found = {str(reached): x}
        with torch.no_grad():
            for boundary in self._boundaries[1:]:
                x, reached = self._backbone.run(x, reached, boundary), boundary
                found[str(boundary)] = x
        return found
