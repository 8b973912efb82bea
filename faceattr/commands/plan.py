"""`faceattr plan`: the resources and cost of a label run, calculated before there is a cluster."""

from dataclasses import dataclass
from typing import Literal

from faceattr.errors import ConfigError
from faceattr.planning.describe import describe_estimate, describe_rates
from faceattr.planning.label_plan import MEASURED_MODEL, CostEstimate, estimate_label
from faceattr.planning.models import find_model
from faceattr.planning.rates import load_rates


@dataclass(frozen=True, kw_only=True)
class PlanLabels:
    """Calculates time, machines, requests, storage and cost of a label run from measured rates, and prints warnings."""

    images: int
    """Number of images to label; 100_000_000 is accepted."""
    model: str = "Salesforce/blip-vqa-base"
    """Hub id of a model in the table of `faceattr models`. The rate of one that was not measured on a GPU is scaled by
    its GFLOP an image."""
    px: int = 224
    """Side of a stored image, in pixels."""
    kb: float | None = None
    """Size of an encoded image, in KB. Default: that of a JPEG with as many pixels."""
    gpu: str = "h200"
    """Kind of GPU: h200, h100, a100, l4, a10g, t4."""
    gpus: int = 8
    """Number of GPUs."""
    cores: int | None = None
    """Physical CPU cores for reading and decoding. Default: as many as keep the GPUs busy."""
    questions: int = 3
    """Questions asked about each image."""
    attributes: int = 3
    """Attributes in the table."""
    block_rows: int = 256
    """Images per block, as --workers.block-rows."""
    input: Literal["prefix", "manifest", "packed"] = "prefix"
    """How the images are found: listed below a prefix, named by a manifest, or packed in Parquet."""
    prefixes: int = 1
    """Key prefixes that the images are spread over; a store limits requests per prefix."""
    gpu_rate: float | None = None
    """Images per second of one GPU, if you have measured it (--dry-run). Default: as measured for blip-vqa-base on an
    H200; scaled by their peak for other kinds, and by their GFLOP an image for other models."""
    gpu_price: float | None = None
    """USD per GPU hour. Default: a public list price."""
    core_price: float | None = None
    """USD per core hour. Default: a public list price."""
    sources: bool = False
    """Show the table of rates and the source of each."""

    def __call__(self) -> int:
        """Prints the estimate."""
        rates, entry = load_rates(), find_model(self.model)
        if entry.gflop_image is None and self.gpu_rate is None:
            raise ConfigError(f"--model {self.model}: its GFLOP an image were not counted; give --gpu-rate")
        pixels = float(self.px * self.px)
        plan = CostEstimate(
            num_images=self.images,
            model_px=entry.size_px,
            gflop_image=entry.gflop_image or 0.0,
            gflop_question=entry.gflop_question or 0.0,
            is_measured=self.model == MEASURED_MODEL,
            pixels=pixels,
            image_bytes=self.kb * 1e3 if self.kb is not None else pixels * rates["jpeg_bytes_per_pixel"],
            gpu=self.gpu,
            num_gpus=self.gpus,
            num_cores=self.cores,
            num_questions=self.questions,
            num_attributes=self.attributes,
            block_rows=self.block_rows,
            input_kind=self.input,
            num_prefixes=self.prefixes,
            gpu_rate=self.gpu_rate,
            gpu_price=self.gpu_price,
            core_price=self.core_price,
        )
        print(describe_estimate(plan, estimate_label(plan, rates), rates))
        if self.sources:
            print(f"\n{describe_rates(rates)}")
        return 0
