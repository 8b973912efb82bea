"""The stream of a run through Ray Data: list -> read -> decode -> model, rows in any order."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray.data

from faceattr.config import ImageLimitsConfig, StorageConfig
from faceattr.data.runs.pending import PendingShards
from faceattr.jobs.cluster.blocks import bundle_rows, split_blocks
from faceattr.jobs.cluster.session import ActorLayout
from faceattr.jobs.images.decode import DecodeImages, Resizer
from faceattr.jobs.images.read import ListRowGroups, ListRows, ReadImages, ReadRowGroups

# Reading waits for the network and needs no core of its own.
IMAGE_READ_CPUS = 0.25
# Not what an actor on a CPU claims: Ray Data would fuse the two and decode in the actor, one after the other.
DECODE_CPUS = 0.75


@dataclass(frozen=True, kw_only=True)
class ImageStream:
    """What the stages in front of the model need to know.

    Attributes:
        run_uri: the run folder.
        root: where the images lie.
        bytes_column: for packed input.
        storage: how both are reached.
        limits: what an image may be.
        decode_timeout_s: longest time for one image.
        resizer: how decoded images become what the model takes.
    """

    run_uri: str
    root: str
    bytes_column: str | None
    storage: StorageConfig
    limits: ImageLimitsConfig
    decode_timeout_s: float
    resizer: Resizer


def stream_rows(
    work: PendingShards,
    images: ImageStream,
    *,
    actor: type,
    actor_kwargs: dict[str, Any],
    actors: ActorLayout,
    block_rows: int,
    wait_s: float,
    name: str,
) -> Iterator[pa.Table]:
    """Rows that the actors make of the pending shards' images.

    Args:
        work: what is to be done.
        images: how images are read and decoded.
        actor: class of the model actors; called with tables of rows with pixels.
        actor_kwargs: for its constructor.
        actors: how many and on what.
        block_rows: images in a unit of work.
        wait_s: longest wait for the first actors.
        name: of the data set on the dashboard.
    """
    context = ray.data.DataContext.get_current()
    context.wait_for_min_actors_s = int(wait_s)
    parts = work.plan.parts_with(work.pending)
    listed = ray.data.from_items([{"part": index} for index in parts], override_num_blocks=len(parts))
    dataset = _read(listed, work, images, block_rows).map_batches(
        DecodeImages(images.limits, images.decode_timeout_s, images.resizer),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=DECODE_CPUS,
    )
    dataset = map_on_actors(dataset, actor, actor_kwargs, actors, block_rows)
    dataset.set_name(name)
    yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2)


def _read(parts: ray.data.Dataset, work: PendingShards, images: ImageStream, block_rows: int) -> ray.data.Dataset:
    """Numbers of plan parts -> encoded images, in blocks of at most `block_rows` rows, fewer of large ones."""
    list_rows = ListRows(images.run_uri, images.storage, work)
    read = ReadImages(images.root, images.storage, images.limits, images.bytes_column)

    def stage(dataset: ray.data.Dataset, does: Any) -> ray.data.Dataset:
        return dataset.map_batches(does, batch_size=None, batch_format="pyarrow", num_cpus=IMAGE_READ_CPUS)

    if images.bytes_column is None:
        return stage(split_blocks(stage(parts, list_rows), block_rows), read)
    row_groups = split_blocks(stage(parts, ListRowGroups(list_rows, block_rows)), 1)
    return split_blocks(stage(row_groups, ReadRowGroups(read)), block_rows)


def map_on_actors(
    dataset: ray.data.Dataset, actor: type, kwargs: dict[str, Any], plan: ActorLayout, block_rows: int
) -> ray.data.Dataset:
    """Blocks through a pool of model actors; `kwargs` are for the actor's constructor."""
    if plan.min_actors == plan.max_actors:
        pool = ray.data.ActorPoolStrategy(size=plan.max_actors)
    else:
        pool = ray.data.ActorPoolStrategy(min_size=plan.min_actors, max_size=plan.max_actors)
    # Retries of actor tasks stay unbounded, as Ray Data sets them: after a node is lost, tasks of its actors are tried
    # over and over until another GPU is free. A block that killed every actor ends in Ray Data's no-progress timeout.
    scored = dataset.map_batches(
        actor,
        fn_constructor_kwargs=kwargs,
        batch_size=block_rows,
        batch_format="pyarrow",
        compute=pool,
        num_gpus=plan.gpus,
        num_cpus=plan.cpus,
    )
    return bundle_rows(scored, min(block_rows, plan.batch_size))
