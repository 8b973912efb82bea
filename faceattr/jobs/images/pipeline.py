"""The stream of a run through Ray Data: list -> read -> decode -> model, rows in any order."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray.data

from faceattr.config import ImageLimitsConfig, StorageConfig
from faceattr.data.images.face_view import FaceView
from faceattr.data.runs.pending import PendingShards
from faceattr.jobs.cluster.blocks import bundle_rows, split_blocks
from faceattr.jobs.cluster.session import ActorLayout
from faceattr.jobs.images.decode import DecodeImages, Resizer
from faceattr.jobs.images.first_actor import first_within
from faceattr.jobs.images.read import ListRowGroups, ListRows, ReadImages, ReadRowGroups
from faceattr.jobs.images.stage_watch import StageWatch

# Reading waits for the network and needs no whole core.
IMAGE_READ_CPUS = 0.25
# Not the 1.0 of an actor on a CPU: with equal claims Ray Data would fuse the two stages, and the actor would decode and
# score in turn.
DECODE_CPUS = 0.75
# Calls of one actor that run at the same time: the model works for one while the other fetches its block or makes its
# rows, see `model_thread`. Ray Data keeps as many blocks again waiting in front of the actor: without them it would be
# idle until the driver has noticed that it returned one.
ACTOR_CALLS = 2


@dataclass(frozen=True, kw_only=True)
class ImageStream:
    """What the stages before the model need to know.

    Attributes:
        run_uri: the run folder.
        root: where the images are.
        bytes_column: for packed input, the column with the encoded images.
        storage: how run folder and images are accessed.
        limits: limits on the size of an image.
        decode_timeout_s: longest time for one image, in seconds.
        resizer: converts decoded images to the model's input size.
        faces: which part of an image the model is shown; None for all of it.
        max_decoders: tasks of reading, and of decoding, at a time; None for as many as the cores allow.
    """

    run_uri: str
    root: str
    bytes_column: str | None
    storage: StorageConfig
    limits: ImageLimitsConfig
    decode_timeout_s: float
    resizer: Resizer
    faces: FaceView | None = None
    max_decoders: int | None = None


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
    watch: StageWatch | None = None,
) -> Iterator[pa.Table]:
    """Streams the pending shards' images through the actors.

    Args:
        work: the pending shards.
        images: how images are read and decoded.
        actor: class of the model actors; called with tables of rows with pixels.
        actor_kwargs: arguments of its constructor.
        actors: number and resources of the actors.
        block_rows: images per block.
        wait_s: longest wait for the first actors, in seconds.
        name: name of the data set on the dashboard.
        watch: measures what the stream waits for.
    """
    parts = work.plan.parts_with(work.pending)
    listed = ray.data.from_items([{"part": index} for index in parts], override_num_blocks=len(parts))
    dataset = _read(listed, work, images, block_rows).map_batches(
        DecodeImages(images.limits, images.decode_timeout_s, images.resizer, images.faces),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=DECODE_CPUS,
        compute=_tasks(images),
    )
    dataset = map_on_actors(dataset, actor, actor_kwargs, actors, block_rows)
    dataset.set_name(name)
    if watch is not None:
        watch.follow(dataset)
    yield from first_within(wait_s, dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2))


def _tasks(images: ImageStream) -> ray.data.TaskPoolStrategy:
    return ray.data.TaskPoolStrategy(size=images.max_decoders)


def _read(parts: ray.data.Dataset, work: PendingShards, images: ImageStream, block_rows: int) -> ray.data.Dataset:
    """Plan part numbers -> encoded images, in blocks of at most `block_rows` rows, fewer if the images are large."""
    list_rows = ListRows(images.run_uri, images.storage, work)
    read = ReadImages(images.root, images.storage, images.limits, images.bytes_column)

    def stage(dataset: ray.data.Dataset, does: Any) -> ray.data.Dataset:
        return dataset.map_batches(
            does, batch_size=None, batch_format="pyarrow", num_cpus=IMAGE_READ_CPUS, compute=_tasks(images)
        )

    if images.bytes_column is None:
        return stage(split_blocks(stage(parts, list_rows), block_rows), read)
    row_groups = split_blocks(stage(parts, ListRowGroups(list_rows, block_rows)), 1)
    return split_blocks(stage(row_groups, ReadRowGroups(read)), block_rows)


def map_on_actors(
    dataset: ray.data.Dataset, actor: type, kwargs: dict[str, Any], plan: ActorLayout, block_rows: int
) -> ray.data.Dataset:
    """Maps blocks through a pool of model actors; `kwargs` are the arguments of the actor's constructor."""
    pool = ray.data.ActorPoolStrategy(
        min_size=plan.min_actors,
        max_size=plan.max_actors,
        max_concurrent_calls_per_actor=ACTOR_CALLS,
        # Without it, Ray Data would run the calls in turn, each from its first line to its last.
        enable_true_multi_threading=True,
    )
    # Retries of actor tasks stay unlimited, as in Ray Data: after a node is lost, tasks of its actors are retried until
    # another GPU is free. A block that kills every actor ends in Ray Data's no-progress timeout.
    scored = dataset.map_batches(
        actor,
        fn_constructor_kwargs=kwargs,
        batch_size=block_rows,
        batch_format="pyarrow",
        compute=pool,
        num_gpus=plan.gpus,
        num_cpus=plan.cpus,
        memory=plan.memory_bytes or None,
    )
    return bundle_rows(scored, min(block_rows, plan.batch_size))
