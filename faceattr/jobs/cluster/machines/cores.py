"""How cores are divided between a network and the tasks that decode its images.

An image takes n core-seconds in the network and d core-seconds to decode. With c cores, both keep pace if the network
has c * n / (n + d) of them. A small network that takes all cores gains little from the last ones, and loses much by
waiting for the decoders that compete for them.

n and d are measured before the first step, in processor time, which other programs on the machine hardly affect.
"""

import logging
import time
from dataclasses import dataclass

import pyarrow as pa
import ray
import torch

from faceattr.config.train import TrainConfig
from faceattr.jobs.train.decode import DecodeRows
from faceattr.jobs.train.feed import FeedPlan, reading_cpus
from faceattr.jobs.train.stages import IMAGE, POSITION, Epoch, read_stretch
from faceattr.models.freezing import resolve_depth
from faceattr.models.multitask import MultiAttributeModel
from faceattr.training.assembly import build_stages
from faceattr.training.loop.forward import Forward

logger = logging.getLogger(__name__)

# Forward and backward together take about three times as long as the forward pass alone.
_STEP_OVER_FORWARD = 3.0
_TIMED_IMAGES = 32
# If the first images take longer than this, the network is timed by these alone.
_ENOUGH_S = 0.2


@dataclass(frozen=True, kw_only=True)
class CoreShare:
    """The cores that one worker may use.

    Attributes:
        threads: CPU threads of its network.
        decoders: decoding tasks that run at the same time.
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
    """Divides the cluster's cores evenly over its workers, and a worker's between its network and its decoders.

    Args:
        model: the model that is trained, on the CPU.
        plan: the feed of the worker's images; the number of decoding tasks in its config takes precedence if given.
        num_workers: workers that train at the same time on the cluster, in this and in other trials.
        most_threads: cores of this machine that the worker may use.
        worker_cpus: logical CPUs that a worker claims.
        threads: the network's number of threads where it is fixed: the user gave it, or the network is on a GPU.

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
    """Returns the number of threads for the network, at least one.

    Args:
        cores: available to network and decoding together.
        network_s: core-seconds per image in the network.
        decode_s: core-seconds per image of decoding.
    """
    return max(1, round(cores * network_s / (network_s + decode_s)))


def count_decoders(config: TrainConfig, num_workers: int, worker_cpus: float) -> int:
    """Counts the decoding tasks a worker may run at a time: its share of the CPUs no worker claims, at least one."""
    if config.feed.max_decoders is not None:
        return config.feed.max_decoders
    free = ray.cluster_resources().get("CPU", 0.0) - num_workers * (worker_cpus + reading_cpus())
    return max(1, int(free / num_workers / config.feed.decode_cpus))


def time_network(model: MultiAttributeModel, config: TrainConfig) -> float:
    """Measures the core-seconds per image of a training step. The model, on the CPU, is left unchanged.

    Where no stage of the training trains the backbone, it has no backward pass.
    """
    preprocessing = model.backbone.preprocessing
    forward = Forward(preprocessing, precision=config.optim.precision, device=torch.device("cpu"))
    side = preprocessing.size_px
    inputs = torch.full((min(_TIMED_IMAGES, config.feed.settled_batch_size), 3, side, side), 128, dtype=torch.uint8)
    was_training, threads = model.training, torch.get_num_threads()
    torch.set_num_threads(1)
    model.eval()  # keeps batch norm statistics, draws no random number
    try:
        with torch.no_grad():
            forward(model, inputs[:2])  # the first call includes set-up
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
    """Measures the core-seconds it takes to decode, augment and resize one training image.

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
