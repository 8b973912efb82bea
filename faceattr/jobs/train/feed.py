"""The images of one worker, epoch after epoch, through Ray Data.

    windows of the epoch -> read this worker's rows -> decode and augment (CPU tasks) -> batches, in order

Each worker runs its own stream. Ray Train's way, one stream that is split over the workers on demand, cannot give
what a resume and a comparison need: the same batches for any number of workers, and any epoch reproduced.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data
import torch

from faceattr.attributes import AttributeSet
from faceattr.config.train import TrainConfig
from faceattr.errors import RunError
from faceattr.jobs.cluster.blocks import SPLIT_CPUS, split_blocks
from faceattr.jobs.train.decode import PIXELS, SEED, DecodeRows
from faceattr.jobs.train.stages import POSITION, Epoch, ReadStretches, ReadWindow
from faceattr.models.augment.train import TrainTransform
from faceattr.models.backbones.preprocessing import Preprocessing
from faceattr.training.inputs import TrainingInputs
from faceattr.training.targets import Batch, read_targets

_ROW_READ_CPUS = 0.1
_READERS = 2
# Share of the cluster's object store for all feeds that run at the same time; the rest is for other uses.
_STORE_SHARE = 0.4
# A reader holds a window; the blocks that it passes on come on top of that.
_WINDOW_BLOCK_BYTES = 32 * 2**20
_MAX_QUEUED_BATCHES = 4
_MAKING = threading.Lock()


def reading_cpus(readers: int = _READERS) -> float:
    """Returns the CPUs that one worker's reading tasks claim, in addition to the worker and its decoding tasks.

    Args:
        readers: number of tasks that run at the same time. A worker's stream runs two; one is enough to make progress.
    """
    return readers * _ROW_READ_CPUS


@dataclass(frozen=True, kw_only=True)
class FeedPlan:
    """What a worker's feed needs to know; the same for all workers.

    Attributes:
        inputs: packed runs and what is known of them.
        config: the training's config; the feed uses its feed, augmentation, seed and number of epochs.
        preprocessing: preprocessing of the backbone.
    """

    inputs: TrainingInputs
    config: TrainConfig
    preprocessing: Preprocessing

    @property
    def num_batches(self) -> int:
        """Batches per epoch. Rows that do not fill the last batch are left out, different ones in each epoch."""
        return self.inputs.surveys["train"].stretches.total_rows // self.config.feed.settled_batch_size


class Feed:
    """Batches for `fit`. Must be closed, or its streams continue."""

    def __init__(
        self,
        plan: FeedPlan,
        *,
        rank: int,
        world_size: int,
        max_decoders: int,
        num_feeds: int,
        pin: bool,
        crops_only: bool,
    ) -> None:
        """Prepares the feed; nothing is read yet.

        Args:
            plan: the images and settings of the feed.
            rank: rank of the worker.
            world_size: number of workers.
            max_decoders: decoding tasks that run at the same time.
            num_feeds: feeds that run at the same time on the cluster; they share its object store.
            pin: whether batches are placed in page-locked memory.
            crops_only: whether the CPU only crops random views; `finish_views` completes them, best on a GPU.
        """
        self._plan = plan
        self._rank = rank
        self._world_size = world_size
        self._max_decoders = max_decoders
        self._store_share = _STORE_SHARE / num_feeds
        self._pin = pin
        self._crops_only = crops_only
        self._transform = TrainTransform(plan.preprocessing, plan.config.augmentation)
        self._ahead: tuple[int, _Ahead] | None = None
        self._kept: list[Batch] | None = None

    @property
    def num_batches(self) -> int:
        """Batches per epoch."""
        return self._plan.num_batches

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        """Yields this worker's part of each batch of an epoch. The next epoch starts to load when this one ends."""
        if self._ahead is None or self._ahead[0] != epoch:
            self.close()
            self._ahead = (epoch, self._start(epoch))
        stream = self._ahead[1]
        yield from stream
        num_epochs = self._plan.config.optim.epochs
        self._ahead = (epoch + 1, self._start(epoch + 1)) if epoch + 1 < num_epochs else None

    def finish_views(self, batch: Batch) -> Batch:
        """Completes the random views of a batch that holds crops, on the device of its images."""
        if batch.seeds is None:
            return batch
        return replace(batch, inputs=self._transform.finish(batch.inputs, seeds=batch.seeds), seeds=None)

    def val_batches(self) -> Iterator[Batch]:
        """Yields this worker's part of validation; each image is in one batch of one worker. Kept in memory if few."""
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Batch] = []
        room = self._plan.config.feed.cache_mb * 2**20
        for batch in self._read_val():
            room -= batch.inputs.nbytes
            if room >= 0:
                kept.append(batch)
            yield batch
        if room >= 0:
            self._kept = kept

    def close(self) -> None:
        """Ends the stream that was started ahead."""
        if self._ahead is not None:
            self._ahead[1].close()
            self._ahead = None

    def _start(self, epoch: int) -> "_Ahead":
        return _Ahead(lambda: self._read_train(epoch))

    def _read_train(self, epoch: int) -> Iterator[Batch]:
        plan, config, settings = self._plan, self._plan.config, self._plan.config.feed
        place = Epoch(seed=config.seed, number=epoch, rank=self._rank, world_size=self._world_size)
        survey = plan.inputs.surveys["train"]
        windows = survey.stretches.windows(seed=config.seed, epoch=epoch, window_rows=settings.shuffle_rows)
        items = [
            {"number": each.number, "first_position": each.first_position, "stretches": each.stretches.tolist()}
            for each in windows
        ]
        read = ReadWindow(
            data=plan.inputs.data,
            attributes=plan.inputs.attributes,
            survey=survey,
            balance=settings.balance,
            balance_power=settings.balance_power,
            epoch=place,
            block_rows=settings.block_rows,
        )
        decode = DecodeRows(
            preprocessing=plan.preprocessing,
            augmentation=config.augmentation,
            epoch=place,
            crops_only=self._crops_only,
        )
        name = f"train_epoch_{epoch}_rank_{self._rank}"
        tables = self._stream(items, read, decode, name=name, block_bytes=_WINDOW_BLOCK_BYTES)
        parts = cut_batches(tables, batch_size=settings.settled_batch_size, num_batches=plan.num_batches)
        batches = (self._make_batch(part) if len(part) else None for part in parts)
        yield from fill_gaps(batches, f"epoch {epoch}: worker {self._rank} of {self._world_size}")

    def _make_batch(self, rows: pa.Table) -> Batch:
        batch = to_batch(rows, self._plan.inputs.attributes, self._plan.preprocessing.size_px)
        return batch.pin_memory() if self._pin else batch

    def _read_val(self) -> Iterator[Batch]:
        plan, inputs = self._plan, self._plan.inputs
        survey = inputs.surveys["val"]
        mine = range(self._rank, len(survey.stretches.num_rows), self._world_size)
        if not mine:
            return
        read = ReadStretches(data=inputs.data, attributes=inputs.attributes, split="val", survey=survey)
        decode = DecodeRows(preprocessing=plan.preprocessing)
        items = [{"stretch": each} for each in mine]
        tables = self._stream(items, read, decode, name=f"val_rank_{self._rank}")
        size = max(1, plan.config.feed.settled_batch_size // self._world_size)
        for table in tables:
            for start in range(0, len(table), size):
                yield self._make_batch(table.slice(start, size))

    def _stream(
        self, items: list[dict[str, Any]], read: Any, decode: DecodeRows, *, name: str, block_bytes: int | None = None
    ) -> Iterator[pa.Table]:
        """Yields decoded rows in order of the items; stages join small tables to `block_bytes`, by default Ray's."""
        context = ray.data.DataContext.get_current().copy()
        context.target_max_block_size = block_bytes or context.target_max_block_size
        context.execution_options.preserve_order = True
        context.execution_options.resource_limits = ray.data.ExecutionResources.for_limits(
            cpu=reading_cpus() + _READERS * SPLIT_CPUS + self._max_decoders * self._plan.config.feed.decode_cpus,
            object_store_memory=self._store_share * ray.cluster_resources().get("object_store_memory", 0.0),
        )
        # The current context belongs to the process; a data set keeps the context that it was created under.
        with _MAKING, ray.data.DataContext.current(context):
            windows = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
                read,
                batch_size=None,
                batch_format="pyarrow",
                num_cpus=_ROW_READ_CPUS,
                compute=ray.data.TaskPoolStrategy(size=min(_READERS, len(items))),
            )
            dataset = split_blocks(windows, self._plan.config.feed.block_rows).map_batches(
                decode,
                batch_size=None,
                batch_format="pyarrow",
                num_cpus=self._plan.config.feed.decode_cpus,
                compute=ray.data.TaskPoolStrategy(size=self._max_decoders),
            )
        dataset.set_name(name)
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)


def cut_batches(tables: Iterator[pa.Table], *, batch_size: int, num_batches: int) -> Iterator[pa.Table]:
    """Yields one table per batch, perhaps empty, from rows in order of position; rows after the last batch are dropped.

    Args:
        tables: tables with the rising column `position`.
        batch_size: positions per batch.
        num_batches: number of batches to yield.
    """
    pending: list[pa.Table] = []
    number = 0
    empty: pa.Table | None = None
    for table in tables:
        empty = table.slice(0, 0)
        batches = table[POSITION].to_numpy() // batch_size
        start = 0
        while start < len(table):
            batch = int(batches[start])
            while number < min(batch, num_batches):
                yield pa.concat_tables(pending) if pending else empty
                pending, number = [], number + 1
            if number == num_batches:
                return
            stop = int(np.searchsorted(batches, batch, side="right"))
            pending.append(table.slice(start, stop - start))
            start = stop
    while number < num_batches and empty is not None:
        yield pa.concat_tables(pending) if pending else empty
        pending, number = [], number + 1


def fill_gaps(batches: Iterator[Batch | None], worker: str) -> Iterator[Batch]:
    """Yields a batch for every step, since the other workers wait for it: None becomes the previous batch, unlabelled.

    Raises:
        RunError: the first batch is None; `worker` names the worker in the message.
    """
    before: Batch | None = None
    for number, batch in enumerate(batches):
        if batch is not None:
            before = batch
        elif before is not None:
            before = before.unlabelled()
        else:
            raise RunError(f"{worker} has no image in batch {number}; raise --feed.batch-size or use fewer workers")
        yield before


def to_batch(rows: pa.Table, attributes: AttributeSet, size_px: int) -> Batch:
    """Returns rows with pixels and labels as tensors that own their memory."""
    column = rows[PIXELS]
    pixels = np.empty((len(rows), 3, size_px, size_px), np.uint8)
    start = 0
    for chunk in column.chunks:
        width = chunk.type.byte_width
        values = np.frombuffer(chunk.buffers()[1], np.uint8, len(chunk) * width, chunk.offset * width)
        pixels[start : start + len(chunk)] = values.reshape(len(chunk), 3, size_px, size_px)
        start += len(chunk)
    seeds = tuple(rows[SEED].to_pylist()) if SEED in rows.column_names else None
    return Batch(inputs=torch.from_numpy(pixels), targets=read_targets(rows, attributes), seeds=seeds)


class _Ahead:
    """An iterator that a thread drains into a short queue, so that the first items are there when they are needed."""

    def __init__(self, make: Callable[[], Iterator[Batch]]) -> None:
        self._queue: queue.Queue[Batch | BaseException | None] = queue.Queue(_MAX_QUEUED_BATCHES)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._fill, args=(make,), name="feed", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Batch]:
        while True:
            item = self._queue.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        """Ends the thread and its source."""
        self._closed.set()
        self._thread.join()

    def _fill(self, make: Callable[[], Iterator[Batch]]) -> None:
        end: BaseException | None = None
        try:
            with contextlib.closing(make()) as items:  # type: ignore[type-var]
                for item in items:
                    if not self._put(item):
                        return
        except Exception as error:  # noqa: BLE001 - raised again in the thread that reads the items
            end = error
        self._put(end)

    def _put(self, item: Batch | BaseException | None) -> bool:
        """Puts an item into the queue; returns whether there was room before this was closed."""
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=0.2)
                return True
        return False
