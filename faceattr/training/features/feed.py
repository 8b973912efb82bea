"""Batches of cached activations, with the same rows in the same order as the image feed."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from faceattr.attributes import AttributeSet
from faceattr.config.train import FeedConfig, TrainConfig
from faceattr.data.packed.reader import PackedData
from faceattr.errors import RunError
from faceattr.training.balance import ClassCombinations, weigh_cells, weigh_rows
from faceattr.training.features.cache import Features
from faceattr.training.inputs import TrainingInputs
from faceattr.training.label_survey import SplitSurvey, label_columns
from faceattr.training.row_order import Indices, order_rows
from faceattr.training.targets import Batch, Targets, read_targets

# Pooled features of a small data set are copied into memory, where picking rows is faster than from many files.
_COPY_BYTES = 2**28


def read_labels(data: PackedData, split: str, attributes: AttributeSet) -> pa.Table:
    """Reads the label columns of a split, in row order."""
    columns = label_columns(data, attributes)
    schema = pa.schema([data.schema.field(name) for name in columns])
    return pa.concat_tables([schema.empty_table(), *data.iter_split(split, columns)])


def order_epoch(
    survey: SplitSurvey,
    settings: FeedConfig,
    *,
    seed: int,
    epoch: int,
    weights: npt.NDArray[np.float64] | None = None,
) -> Indices:
    """Returns the indices of an epoch's training rows, int64 [rows], in the order of their positions.

    Args:
        survey: survey of the split.
        settings: settings of the feed.
        seed: seed of the run.
        epoch: which epoch, from 0.
        weights: float64 [rows], sampling weights; by default every row is drawn once.
    """
    sizes = survey.stretches.num_rows
    starts = np.cumsum(sizes) - sizes
    order = []
    for window in survey.stretches.windows(seed=seed, epoch=epoch, window_rows=settings.shuffle_rows):
        inside = None
        if weights is not None:
            inside = np.concatenate([weights[starts[each] : starts[each] + sizes[each]] for each in window.stretches])
        stretch, row = order_rows(sizes[window.stretches], seed=seed, epoch=epoch, window=window.number, weights=inside)
        order.append(starts[window.stretches[stretch]] + row)
    return np.concatenate(order)


def own_val_rows(survey: SplitSurvey, *, rank: int, world_size: int) -> Indices:
    """Returns the indices of a worker's validation rows, int64, in the order in which both feeds yield them."""
    sizes = survey.stretches.num_rows
    starts = np.cumsum(sizes) - sizes
    mine = [np.arange(starts[each], starts[each] + sizes[each]) for each in range(rank, len(sizes), world_size)]
    return np.concatenate([np.empty(0, np.int64), *mine])


class FeatureFeed:
    """Batches for `fit`: activations at a boundary, with labels."""

    def __init__(
        self,
        views: Sequence[Features],
        val: Features,
        inputs: TrainingInputs,
        config: TrainConfig,
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Combines the cache with the labels, which it reads.

        Args:
            views: views of the training images; epoch e uses view e modulo their number.
            val: activations of the validation images.
            inputs: the packed runs that the activations were computed from.
            config: config of the training; its image feed and its seed count.
            rank: rank of the worker.
            world_size: number of workers.

        Raises:
            RunError: the numbers of labels and activations differ.
        """
        attributes, settings = inputs.attributes, config.feed
        train_labels, val_labels = (read_labels(inputs.data, split, attributes) for split in ("train", "val"))
        for split, features, labels in [*(("train", each, train_labels) for each in views), ("val", val, val_labels)]:
            if len(features) != len(labels):
                raise RunError(
                    f"the feature cache has {len(features)} rows of {split}, the data {len(labels)}: the packed run "
                    "was changed after the cache was made"
                )
        self._views = [_Rows(each) for each in views]
        self._val = _Rows(val)
        self._targets = read_targets(train_labels, attributes)
        self._val_targets = read_targets(val_labels, attributes)
        self._survey, self._settings, self._seed = inputs.surveys["train"], settings, config.seed
        self._rank, self._world_size = rank, world_size
        self._val_rows = own_val_rows(inputs.surveys["val"], rank=rank, world_size=world_size)
        self._weights = None
        if settings.balance:
            cells = ClassCombinations(inputs.data.attributes, settings.balance)
            weights = weigh_cells(np.array(self._survey.cells, np.int64), settings.balance_power)
            rows = pa.concat_tables(inputs.data.iter_split("train", cells.columns))
            self._weights = weigh_rows(cells.find(rows), weights)

    @property
    def num_batches(self) -> int:
        """Number of batches in an epoch, equal to the image feed's."""
        return self._survey.stretches.total_rows // self._settings.settled_batch_size

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        """Yields this worker's part of each batch of an epoch.

        Raises:
            RunError: some batch has no image for this worker.
        """
        order = order_epoch(self._survey, self._settings, seed=self._seed, epoch=epoch, weights=self._weights)
        rows, size = self._views[epoch % len(self._views)], self._settings.settled_batch_size
        if size < self._world_size:
            raise RunError(f"--feed.batch-size {size}: {self._world_size} workers need an image each in every batch")
        for start in range(0, self.num_batches * size, size):
            yield _batch(rows, self._targets, order[start + self._rank : start + size : self._world_size])

    def val_batches(self) -> Iterator[Batch]:
        """Yields this worker's validation rows, in order."""
        size = self._settings.settled_batch_size
        for start in range(0, len(self._val_rows), size):
            yield _batch(self._val, self._val_targets, self._val_rows[start : start + size])

    def close(self) -> None:
        """Does nothing: this feed has no background work."""


class _Rows:
    """Activations by index, from memory if they are small."""

    def __init__(self, features: Features) -> None:
        self._features = features
        small = len(features) * int(np.prod(features.shape)) * 4 <= _COPY_BYTES
        self._copied = features.load() if small else None

    def __len__(self) -> int:
        return len(self._features)

    def take(self, index: Indices) -> Tensor:
        return self._features.take(index) if self._copied is None else self._copied[torch.from_numpy(index)]


def _batch(rows: _Rows, targets: dict[str, Targets], index: Indices) -> Batch:
    places = torch.from_numpy(index)
    return Batch(inputs=rows.take(index), targets={name: each.take(places) for name, each in targets.items()})
