"""How cores are shared out between a network and the tasks that decode its images.

An image takes n seconds in the network and d seconds in decoding, each on one core. With c cores both keep pace where
the network has c * n / (n + d) of them. A small network that takes all cores gains little from the last ones, and loses
much by waiting for the decoders that take them again.

n and d are measured before the first step, in processor time, which other programs on the machine hardly change.
"""

import logging
import time
from dataclasses import dataclass

import pyarrow as pa
import ray
import torch

from faceattr.config.train import TrainConfig
from faceattr.jobs.train.feed import FeedPlan, reading_cpus
from faceattr.jobs.train.stages import IMAGE, POSITION, DecodeRows, Epoch, read_stretch
from faceattr.models.freezing import resolve_depth
from faceattr.models.multitask import MultiAttributeModel
from faceattr.training.assembly import build_stages
from faceattr.training.loop.forward import Forward

logger = logging.getLogger(__name__)

# Forward and backward take about three times what the forward alone takes.
_STEP_OVER_FORWARD = 3.0
_TIMED_IMAGES = 32
# A network that takes longer than this for its first images is timed by these alone.
_ENOUGH_S = 0.2


@dataclass(frozen=True, kw_only=True)
class CoreShare:
    """What one worker may use.

    Attributes:
        threads: that its network computes with.
        decoders: decoding tasks at a time.
    """

    threads: int
    decoders: int


def share_cores(
    model: MultiAttributeModel,
    plan: FeedPlan,
    *,
    num_workers: int,
    most_threads: int,
    worker_cpus: float,
    threads: int | None,
) -> CoreShare:
    """Shares the cluster's cores out evenly over its workers, and a worker's between its network and its decoders.

    Args:
        model: that is trained, on the CPU.
        plan: of the worker's images; the number of decoding tasks in its config wins if it is given.
        num_workers: workers that train at a time on the cluster, those of other trials among them.
        most_threads: cores of this machine that the worker may use.
        worker_cpus: logical CPUs that a worker claims.
        threads: number of the network's threads if it is not to be chosen: it is given, or the network is on a GPU.

    Raises:
        RunError, StorageError: an image of the training split cannot be read.
    """
    decoders = count_decoders(plan.config, num_workers, worker_cpus)
    cores = min(float(most_threads), ray.cluster_resources().get("CPU", 0.0) / num_workers)
    if threads is not None or cores < 2:
        return CoreShare(threads=threads or 1, decoders=decoders)
    network_s, decode_s = time_network(model, plan.config), time_decoding(plan)
    share = CoreShare(threads=split_cores(cores, network_s, decode_s), decoders=decoders)
    logger.info(
        "cores=%g network_ms_per_image=%.2f decode_ms_per_image=%.2f threads=%d max_decoders=%d",
        *(cores, network_s * 1e3, decode_s * 1e3, share.threads, share.decoders),
    )
    return share


def split_cores(cores: float, network_s: float, decode_s: float) -> int:
    """Threads of the network, at least one.

    Args:
        cores: for both.
        network_s: seconds of one core that an image takes in the network.
        decode_s: the same in decoding.
    """
    return max(1, round(cores * network_s / (network_s + decode_s)))


def count_decoders(config: TrainConfig, num_workers: int, worker_cpus: float) -> int:
    """Decoding tasks that a worker may run at a time: its share of the CPUs that no worker claims, at least one."""
    if config.feed.max_decoders is not None:
        return config.feed.max_decoders
    free = ray.cluster_resources().get("CPU", 0.0) - num_workers * (worker_cpus + reading_cpus())
    return max(1, int(free / num_workers / config.feed.decode_cpus))


def time_network(model: MultiAttributeModel, config: TrainConfig) -> float:
    """Seconds of one core that a training step takes for an image. The model, on the CPU, stays as it is.

    Where no stage of the training trains the backbone, nothing goes back through it.
    """
    preprocessing = model.backbone.preprocessing
    forward = Forward(preprocessing, precision=config.optim.precision, device=torch.device("cpu"))
    side = preprocessing.size_px
    inputs = torch.full((min(_TIMED_IMAGES, config.feed.batch_size), 3, side, side), 128, dtype=torch.uint8)
    was_training, threads = model.training, torch.get_num_threads()
    torch.set_num_threads(1)
    model.eval()  # statistics of batch norms stay, and no random number is drawn
    try:
        with torch.no_grad():
            forward(model, inputs[:2])  # the first call sets things up
            num_images, took_s = 2, _time_forward(model, forward, inputs[:2])
            if took_s < _ENOUGH_S:
                num_images, took_s = len(inputs), _time_forward(model, forward, inputs)
    finally:
        model.train(was_training)
        torch.set_num_threads(threads)
    trains_backbone = bool(config.lora.rank) or any(
        resolve_depth(model.backbone, stage.freeze_depth) < model.backbone.num_blocks
        for stage in build_stages(config, model)
    )
    return took_s / num_images * (_STEP_OVER_FORWARD if trains_backbone else 1.0)


def _time_forward(model: MultiAttributeModel, forward: Forward, inputs: torch.Tensor) -> float:
    started_s = time.thread_time()
    forward(model, inputs)
    return time.thread_time() - started_s


def time_decoding(plan: FeedPlan) -> float:
    """Seconds of one core that it takes to decode, augment and resize a training image.

    Raises:
        RunError, StorageError: the first row group of the training split cannot be read.
    """
    images = read_stretch(plan.inputs.data, "train", plan.inputs.surveys["train"], 0, [IMAGE]).slice(0, _TIMED_IMAGES)
    rows = images.add_column(0, POSITION, pa.array(range(len(images)), pa.int64()))
    decode = DecodeRows(
        preprocessing=plan.preprocessing,
        augmentation=plan.config.augmentation,
        epoch=Epoch(seed=plan.config.seed, number=0, rank=0, world_size=1),
    )
    threads = torch.get_num_threads()
    try:
        decode(rows.slice(0, 1))
        started_s = time.thread_time()
        decode(rows)
        return (time.thread_time() - started_s) / len(rows)
    finally:
        torch.set_num_threads(threads)
