"""Time, machines, requests, bytes and cost of a label run of a given size."""

import math
from dataclasses import dataclass

from faceattr.data.inputs.image_input import InputKind
from faceattr.data.runs.plan import PART_ROWS, choose_shard_size
from faceattr.errors import ConfigError
from faceattr.planning.rates import Bottleneck, Rates, Resource, find_bottleneck, seconds_between

# CPU requests of the job's stages; see faceattr/jobs/images/pipeline.py and read.py.
_READ_CPUS, _READ_THREADS = 0.25, 16
# Side of the images for which the rate of moving pixels was measured.
_MOVED_PX = 384
MEASURED_MODEL = "Salesforce/blip-vqa-base"
"""The model that the measured rates of GPUs are of."""
_KEYS_PER_PAGE = 1_000
# Cores are cheap compared with GPUs: a few more than needed keep the queues in front of the model full.
_CORE_HEADROOM = 1.1


@dataclass(frozen=True, kw_only=True)
class CostEstimate:
    """A label run to be estimated.

    Attributes:
        num_images: number of images.
        model_px: side of the images that the model takes.
        gflop_image: GFLOP of the model an image.
        gflop_question: GFLOP of the model for each question about it.
        is_measured: whether the model is the one that the measured rates of GPUs are of.
        pixels: pixels of one image.
        image_bytes: size of one encoded image, in bytes.
        gpu: kind of GPU.
        num_gpus: number of GPUs.
        num_cores: physical cores for reading and decoding; None for as many as keep the GPUs busy.
        num_questions: questions asked about each image.
        num_attributes: attributes in the table.
        block_rows: images per block.
        input_kind: listed below a prefix, named by a manifest, or packed in Parquet.
        num_prefixes: key prefixes that the images are spread over.
        gpu_rate: images per second and GPU if measured; None for that of the table.
        gpu_price: USD per GPU hour; None for the list price.
        core_price: USD per core hour; None for the list price.
    """

    num_images: int
    model_px: int
    gflop_image: float
    gflop_question: float
    is_measured: bool
    pixels: float
    image_bytes: float
    gpu: str
    num_gpus: int
    num_cores: int | None = None
    num_questions: int = 3
    num_attributes: int = 3
    block_rows: int = 256
    input_kind: InputKind = "prefix"
    num_prefixes: int = 1
    gpu_rate: float | None = None
    gpu_price: float | None = None
    core_price: float | None = None

    def __post_init__(self) -> None:
        for name in ("num_images", "pixels", "image_bytes", "num_gpus", "num_questions", "block_rows", "num_prefixes"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"--{name.removeprefix('num_')}: expected more than 0, found {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class LabelEstimate:
    """The resources and cost of a run.

    Attributes:
        bottleneck: the rate and what limits it.
        num_cores: physical cores for reading and decoding.
        gpu_rate: images per second of one GPU.
        phases_s: phase to seconds, in order.
        gets: GET requests.
        puts: PUT and LIST requests.
        read_bytes: total bytes read from the object store.
        pixel_bytes_per_s: bytes per second of decoded images sent to the GPUs, at the run's rate.
        num_shards: files of the table.
        output_bytes: table, plan and manifest.
        cost: item to USD; an item without a known price is missing.
    """

    bottleneck: Bottleneck
    num_cores: int
    gpu_rate: float
    phases_s: dict[str, float]
    gets: int
    puts: int
    read_bytes: float
    pixel_bytes_per_s: float
    num_shards: int
    output_bytes: float
    cost: dict[str, float]

    @property
    def total_s(self) -> float:
        """Seconds from the command to the manifest."""
        return sum(self.phases_s.values())


def compute_core_s(plan: CostEstimate, rates: Rates) -> dict[str, float]:
    """Returns core seconds per image before the model, by stage."""
    waiting = _READ_CPUS * rates["read_latency_s"] / _READ_THREADS  # a reading task holds its CPU share while it waits
    return {
        "read": max(rates["read_cpu_s"], waiting) if plan.input_kind != "packed" else rates["read_packed_cpu_s"],
        "decode and resize": rates.decode_s(plan.pixels) * rates["decode_isolation"] * rates["decode_on_gpu_machine"],
        "move pixels": rates["move_pixels_s"] * (plan.model_px / _MOVED_PX) ** 2,
    }


def compute_gpu_rate(plan: CostEstimate, rates: Rates) -> float:
    """Returns images per second of one GPU with one actor: measured, or scaled by peak and GFLOP."""
    if plan.gpu_rate is not None:
        return plan.gpu_rate
    gpu = rates.gpu(plan.gpu)
    if gpu.images_per_s is not None and plan.is_measured:
        scorer_s = seconds_between(gpu.images_per_s, plan.num_questions)
    else:
        gflop = plan.gflop_image + plan.num_questions * plan.gflop_question
        scorer_s = gflop / (gpu.tflops * 1e3 * rates["gpu_efficiency"])
    return 1 / (scorer_s + rates["actor_host_s"])


def estimate_label(plan: CostEstimate, rates: Rates) -> LabelEstimate:
    """Calculates a run's resources and cost. Raises ConfigError if the GPU is not in the table."""
    gpu_rate = compute_gpu_rate(plan, rates)
    core_s = compute_core_s(plan, rates)
    gpus = Resource(units=plan.num_gpus, demand_s={"model": 1 / gpu_rate})
    driver = Resource(
        units=1,
        demand_s={
            "schedule": 1 / (rates["schedule_blocks_per_s"] * plan.block_rows),
            "commit": 1 / rates["commit_rows_per_s"],
        },
    )
    resources = {"GPUs": gpus, "driver": driver}
    if plan.input_kind != "packed":
        per_s = rates["get_per_prefix_per_s"]
        resources["object store"] = Resource(units=plan.num_prefixes, demand_s={"GET": 1 / per_s})
    wanted = find_bottleneck(resources).rate * sum(core_s.values())
    num_cores = plan.num_cores or max(1, math.ceil(_CORE_HEADROOM * wanted))
    resources["CPU cores"] = Resource(units=num_cores, demand_s=core_s)
    found = find_bottleneck(resources)
    shard_size = choose_shard_size(plan.num_images)
    num_shards = -(-plan.num_images // shard_size)
    num_parts = -(-plan.num_images // PART_ROWS)
    num_pages = -(-plan.num_images // _KEYS_PER_PAGE) if plan.input_kind == "prefix" else 0
    list_s = num_pages * rates["list_page_s"] / rates["list_pages_at_once"]
    phases_s = {
        "list and plan": list_s + plan.num_images / rates["plan_rows_per_s"],
        "start": rates["start_s"],
        "label": plan.num_images / found.rate,
        "verify": plan.num_images / rates["verify_rows_per_s"],
    }
    table_row = rates["label_row_bytes"] + plan.num_attributes * rates["label_attribute_bytes"]
    output_bytes = plan.num_images * (table_row + rates["plan_row_bytes"])
    # Each image once, or in row groups of 1,000; every shard and plan part once more, to verify and to work on.
    image_gets = plan.num_images if plan.input_kind != "packed" else -(-plan.num_images // 1_000)
    gets, puts = image_gets + num_shards + 2 * num_parts, num_pages + num_shards + num_parts
    hours = (phases_s["start"] + phases_s["label"]) / 3600
    gpu_price = plan.gpu_price if plan.gpu_price is not None else rates.gpu(plan.gpu).price
    core_price = plan.core_price if plan.core_price is not None else rates.price("core_hour")
    cost = {} if gpu_price is None else {"GPUs": gpu_price * plan.num_gpus * hours}
    cost |= {
        "CPU cores": core_price * num_cores * hours,
        "requests": gets * rates.price("get") + puts * rates.price("put"),
        "storage of the table, a month": output_bytes / 1e9 * rates.price("gb_month"),
    }
    return LabelEstimate(
        bottleneck=found,
        num_cores=num_cores,
        gpu_rate=gpu_rate,
        phases_s=phases_s,
        gets=gets,
        puts=puts,
        read_bytes=plan.num_images * plan.image_bytes,
        pixel_bytes_per_s=found.rate * plan.model_px**2 * 3,
        num_shards=num_shards,
        output_bytes=output_bytes,
        cost=cost,
    )
