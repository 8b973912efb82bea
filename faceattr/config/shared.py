"""What several commands share: storage, decoding, actors, the Ray session."""

from dataclasses import dataclass
from typing import Literal

from faceattr.config.checks import check

Precision = Literal["float32", "bfloat16", "float16"]
# Pillow's own limit against decompression bombs.
MAX_PIXELS = 89_478_485


@dataclass(frozen=True, kw_only=True)
class StorageConfig:
    """How object storage is reached. Credentials come from the environment or a role, never from here."""

    endpoint_url: str | None = None
    """S3 endpoint, for stores other than AWS; without it AWS_ENDPOINT_URL counts."""
    deadline_s: float = 300.0
    """How long one operation is retried before the run stops, seconds. An outage never rejects an image."""
    verify: bool = True
    """Compare files of published runs with the size and hash in their manifest as they are read, which costs under a
    second a GB. Without it, what can still be read of a damaged run is."""

    def __post_init__(self) -> None:
        check(self.deadline_s > 0, "storage.deadline-s", self.deadline_s, "more than 0")
        has_secret = self.endpoint_url is not None and "@" in self.endpoint_url
        check(not has_secret, "storage.endpoint-url", "a URL with credentials", "one without")


@dataclass(frozen=True, kw_only=True)
class ImageLimitsConfig:
    """What an image may be. One that is more is refused with a reason."""

    max_bytes: int = 64 * 2**20
    """Largest encoded image, bytes. A larger one is not fetched."""
    max_pixels: int = 50_000_000
    """Largest image, pixels, by its header."""

    def __post_init__(self) -> None:
        check(self.max_bytes > 0, "decode.max-bytes", self.max_bytes, "more than 0")
        fits = 1 <= self.max_pixels <= MAX_PIXELS
        check(fits, "decode.max-pixels", self.max_pixels, f"1 to {MAX_PIXELS:,}, from where on Pillow objects")


@dataclass(frozen=True, kw_only=True)
class DecodeConfig(ImageLimitsConfig):
    """What an image may be. One that is more becomes a row with a reason."""

    timeout_s: float = 20.0
    """Longest time one image may take to decode, seconds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.timeout_s > 0, "decode.timeout-s", self.timeout_s, "more than 0")


@dataclass(frozen=True, kw_only=True)
class WorkersConfig:
    """How many actors hold the model, and on what."""

    gpus_per_actor: float | None = None
    """GPUs an actor is pinned to; fractions share one. Default: 1 where the cluster has GPUs, else 0 (CPU)."""
    min_actors: int | None = None
    """Fewest actors; with fewer than --workers.max-actors the pool grows and shrinks. Default: as many as the most."""
    max_actors: int | None = None
    """Most actors. Default: what the GPUs hold, or one a CPU core as far as memory reaches."""
    threads_per_actor: int = 1
    """CPU threads an actor computes with."""
    batch_size: int | None = None
    """Images in one forward pass. Default: 64 on a GPU, 8 on a CPU; halved when memory does not suffice."""
    block_rows: int | None = None
    """Images in one unit of work. Default: 256, fewer for small runs."""
    wait_s: float = 600.0
    """How long to wait for the first actors before giving up, seconds."""

    def __post_init__(self) -> None:
        gpus = self.gpus_per_actor
        check(gpus is None or gpus >= 0, "workers.gpus-per-actor", gpus, "0 or more")
        check(gpus is None or gpus <= 1 or gpus == int(gpus), "workers.gpus-per-actor", gpus, "a whole number above 1")
        for name in ("min_actors", "max_actors", "threads_per_actor", "batch_size", "block_rows"):
            value = getattr(self, name)
            check(value is None or value >= 1, f"workers.{name.replace('_', '-')}", value, "1 or more")
        if self.min_actors and self.max_actors:
            check(self.min_actors <= self.max_actors, "workers.min-actors", self.min_actors, "at most max-actors")


@dataclass(frozen=True, kw_only=True)
class RayConfig:
    """The Ray session. In a job, or with RAY_ADDRESS set, the cluster there is joined; else one is started here."""

    dashboard: bool = True
    """Start the dashboard with a local cluster."""
    object_store_mb: int | None = None
    """Size of the object store of a local cluster, MB. Default: Ray's own."""
    num_cpus: int | None = None
    """CPU cores a local cluster may use. Default: all."""

    def __post_init__(self) -> None:
        for name in ("object_store_mb", "num_cpus"):
            value = getattr(self, name)
            check(value is None or value >= 1, f"ray.{name.replace('_', '-')}", value, "1 or more")
