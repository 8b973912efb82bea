"""How a model is served: settings of `faceattr serve`, and `args` in a Ray Serve config file."""

from dataclasses import dataclass, field
from typing import Literal

from faceattr.config.checks import check
from faceattr.config.serving.requests import RequestLimitsConfig
from faceattr.config.shared import MAX_MARGIN, DecodeConfig, PrecisionChoice, StorageConfig


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """How a model is served, wherever the server listens."""

    model: str
    """A trained model: a local folder, s3://bucket/folder, or a hub id."""
    revision: str | None = None
    """Commit of a hub model. Default: the hub's current one."""
    replicas: int | None = None
    """Processes that hold the model. Default: as many as the GPUs hold, or one per CPU core as far as memory allows."""
    gpus_per_replica: float | None = None
    """GPUs per replica; replicas with a fraction share one GPU, and while one computes the others decode. Default: 1 if
    there are GPUs, else 0 (CPU)."""
    threads_per_replica: int = 1
    """CPU threads of one replica."""
    batch_size: int | None = None
    """Most images per forward pass. Default: 64 on a GPU, 16 on a CPU."""
    batch_wait_ms: float = 5.0
    """How long an image waits for others to fill its batch, in milliseconds. While a batch is computed, the next one
    fills without waiting."""
    precision: PrecisionChoice = "auto"
    """Data type of the network's computation. auto: bfloat16 on GPUs from Ampere on, else float32. bfloat16 changes
    confidences by up to about 0.02; on CPUs it pays only where they have instructions for it."""
    faces: Literal["model", "none", "crop", "align"] = "model"
    """What the model is shown of an image: `model` the same as in its training, or, whatever that was, `none` all of
    it, `crop` its largest face, `align` the same turned upright (extra `faces`). A choice that differs from the
    training is warned of."""
    faces_margin: float | None = None
    """Margin on every side of a face, as a share of the face's size. Default: the model's, else 0.4."""
    faces_missing: Literal["model", "reject", "whole"] = "model"
    """What becomes of an image without a face: `reject` it with the reason no_face, or show the `whole` image. `model`:
    as in its training."""
    limits: RequestLimitsConfig = field(default_factory=RequestLimitsConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)

    def __post_init__(self) -> None:
        check(bool(self.model), "model", self.model, "a folder, an address or a hub id")
        for name in ("replicas", "threads_per_replica", "batch_size"):
            value = getattr(self, name)
            check(value is None or value >= 1, name.replace("_", "-"), value, "1 or more")
        gpus = self.gpus_per_replica
        check(gpus is None or gpus >= 0, "gpus-per-replica", gpus, "0 or more")
        check(gpus is None or gpus <= 1 or gpus == int(gpus), "gpus-per-replica", gpus, "a whole number above 1")
        check(self.batch_wait_ms >= 0, "batch-wait-ms", self.batch_wait_ms, "0 or more")
        margin = self.faces_margin
        check(margin is None or 0 <= margin <= MAX_MARGIN, "faces-margin", margin, f"between 0 and {MAX_MARGIN:g}")
