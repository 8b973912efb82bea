"""Config groups that several commands share: storage, decoding, actors, the Ray session."""

import re
from dataclasses import dataclass
from typing import Literal

from faceattr.config.checks import check

Precision = Literal["float32", "bfloat16", "float16"]
PrecisionChoice = Literal["auto", "float32", "bfloat16", "float16"]
"""A precision, or `auto`: that of the device, by `faceattr.precision`."""
# Pillow's default limit against decompression bombs; above it Pillow issues a DecompressionBombWarning.
MAX_PIXELS = 89_478_485
LoggerName = Literal["wandb", "mlflow"]
"""Who may get the metrics of trainings and searches: Weights & Biases, MLflow."""
FacesChoice = Literal["none", "crop", "align"]
MissingFace = Literal["reject", "whole"]
DEFAULT_MARGIN = 0.4
"""Share of a face's longer side that is kept on every side: hair, hats and beards are outside the detector's box."""
MAX_MARGIN = 2.0


# A name, an IPv4 address, or an IPv6 address in brackets; then perhaps a port.
_HOST = re.compile(r"(?:[a-zA-Z0-9_](?:[a-zA-Z0-9_.-]*[a-zA-Z0-9_])?|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?")


@dataclass(frozen=True, kw_only=True)
class StorageConfig:
    """How object storage is reached. Credentials come from the environment or a role, never from the config."""

    endpoint_url: str | None = None
    """S3 endpoint of a store other than AWS. Default: AWS_ENDPOINT_URL."""
    deadline_s: float = 300.0
    """Seconds for which one operation is retried before the run stops. An outage never rejects an image."""
    list_streams: int | None = None
    """Streams of pages in which a bucket is listed. Default: 16 on Amazon S3; 1 elsewhere and in directory buckets:
    more would miss keys of a store that lists folder by folder instead of in the order of the keys' bytes."""
    allow_http: tuple[str, ...] = ()
    """Hosts that images may be read from by http and https, as HOST (ports 80 and 443) or HOST:PORT. Names must resolve
    to addresses of the public internet; another address is named itself, such as 127.0.0.1:8000."""
    verify: bool = True
    """Compare files of published runs with the sizes and hashes in their manifest while reading them; this costs less
    than a second per GB. With --no-verify, whatever can still be read of a damaged run is used."""

    def __post_init__(self) -> None:
        check(self.deadline_s > 0, "storage.deadline-s", self.deadline_s, "more than 0")
        streams = self.list_streams
        check(streams is None or 1 <= streams <= 64, "storage.list-streams", streams, "1 to 64")
        has_secret = self.endpoint_url is not None and "@" in self.endpoint_url
        check(not has_secret, "storage.endpoint-url", "a URL with credentials", "one without")
        for host in self.allow_http:
            check(bool(_HOST.fullmatch(host)), "storage.allow-http", host, "HOST or HOST:PORT, without http://")


@dataclass(frozen=True, kw_only=True)
class ImageLimitsConfig:
    """Limits of one image. An image that exceeds a limit is refused, with the reason."""

    max_bytes: int = 64 * 2**20
    """Largest encoded image, in bytes. A larger one is not fetched."""
    max_pixels: int = 50_000_000
    """Largest image, in pixels (width times height), according to its header."""

    def __post_init__(self) -> None:
        check(self.max_bytes > 0, "decode.max-bytes", self.max_bytes, "more than 0")
        fits = 1 <= self.max_pixels <= MAX_PIXELS
        check(fits, "decode.max-pixels", self.max_pixels, f"1 to {MAX_PIXELS:,}, the limit that Pillow allows")


@dataclass(frozen=True, kw_only=True)
class DecodeConfig(ImageLimitsConfig):
    """Limits of one image. An image that exceeds a limit becomes a row with the reason."""

    timeout_s: float = 20.0
    """Longest time for decoding one image, in seconds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.timeout_s > 0, "decode.timeout-s", self.timeout_s, "more than 0")


@dataclass(frozen=True, kw_only=True)
class WorkersConfig:
    """How many actors run the model, and on which resources."""

    gpus_per_actor: float | None = None
    """GPUs per actor; actors with a fraction share one GPU. Default: 1 if the cluster has GPUs, else 0 (CPU)."""
    min_actors: int | None = None
    """Least number of actors. If it is below --workers.max-actors, the pool grows and shrinks. Default: the same as
    --workers.max-actors."""
    max_actors: int | None = None
    """Largest number of actors. Default: as many as the GPUs hold, or one per CPU core as far as memory allows; fewer
    where labelling takes no longer than they would need to start."""
    threads_per_actor: int = 1
    """CPU threads of one actor."""
    batch_size: int | None = None
    """Images per forward pass. Default: 128 on a GPU, 8 on a CPU; halved when memory does not suffice. With a model
    that a server serves, requests at a time."""
    block_rows: int | None = None
    """Images per block, the unit of work. Default: 256, fewer for small runs."""
    wait_s: float = 600.0
    """Seconds to wait for the first actors before giving up."""

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
    """The Ray session. In a Ray job, or if RAY_ADDRESS is set, that cluster is used; else a local one is started."""

    dashboard: bool = True
    """Start the dashboard with a local cluster."""
    object_store_mb: int | None = None
    """Object store of a local cluster, in MB. Default: Ray's own."""
    num_cpus: int | None = None
    """CPU cores that a local cluster may use. Default: all."""

    def __post_init__(self) -> None:
        for name in ("object_store_mb", "num_cpus"):
            value = getattr(self, name)
            check(value is None or value >= 1, f"ray.{name.replace('_', '-')}", value, "1 or more")
