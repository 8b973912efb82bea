"""The config of every entry point: frozen dataclasses, two levels deep, checked when they are made.

Flags are generated from them (`faceattr.cli`), so a field's docstring is its help text. Standard library only.
"""

from dataclasses import dataclass, field
from typing import Literal

from faceattr.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class StorageConfig:
    """How object storage is reached. Credentials come from the environment or a role, never from here."""

    endpoint_url: str | None = None
    """S3 endpoint, for stores other than AWS; without it AWS_ENDPOINT_URL counts."""
    deadline_s: float = 300.0
    """How long one operation is retried before the run stops, seconds. An outage never rejects an image."""

    def __post_init__(self) -> None:
        _check(self.deadline_s > 0, "storage.deadline-s", self.deadline_s, "more than 0")
        has_secret = self.endpoint_url is not None and "@" in self.endpoint_url
        _check(not has_secret, "storage.endpoint-url", "a URL with credentials", "one without")


@dataclass(frozen=True, kw_only=True)
class DecodeConfig:
    """What an image may be. One that is more becomes a row with a reason."""

    max_bytes: int = 64 * 2**20
    """Largest encoded image, bytes."""
    max_pixels: int = 50_000_000
    """Largest image, pixels, by its header."""
    timeout_s: float = 20.0
    """Longest time one image may take to decode, seconds."""

    def __post_init__(self) -> None:
        _check(self.max_bytes > 0, "decode.max-bytes", self.max_bytes, "more than 0")
        _check(self.max_pixels > 0, "decode.max-pixels", self.max_pixels, "more than 0")
        _check(self.timeout_s > 0, "decode.timeout-s", self.timeout_s, "more than 0")


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
        _check(gpus is None or gpus >= 0, "workers.gpus-per-actor", gpus, "0 or more")
        _check(gpus is None or gpus <= 1 or gpus == int(gpus), "workers.gpus-per-actor", gpus, "a whole number above 1")
        for name in ("min_actors", "max_actors", "threads_per_actor", "batch_size", "block_rows"):
            value = getattr(self, name)
            _check(value is None or value >= 1, f"workers.{name.replace('_', '-')}", value, "1 or more")
        if self.min_actors and self.max_actors:
            _check(self.min_actors <= self.max_actors, "workers.min-actors", self.min_actors, "at most max-actors")


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
            _check(value is None or value >= 1, f"ray.{name.replace('_', '-')}", value, "1 or more")


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """Labels images with a visual question answering model."""

    images: str
    """A prefix or folder of images, a manifest (.csv or .parquet with `uri` or `image_path`), or Parquet that holds
    encoded images."""
    output: str
    """Run folder: a local path or s3://bucket/prefix."""
    attributes: str = "clear_face"
    """A built-in question set (clear_face, celeba4, portrait) or a YAML file of your own."""
    model: str = "Salesforce/blip-vqa-base"
    """A BlipForQuestionAnswering checkpoint: hub id, local folder, object-storage folder, or `tiny` (for drawings)."""
    revision: str | None = None
    """Commit of a hub checkpoint. Default: what the hub gives; its weights' hash is recorded either way."""
    engine: Literal["packed", "hf"] = "packed"
    """`packed` asks all questions in one pass; `hf` is the plain, slow path of transformers, to compare with."""
    question_start: Literal["cls", "enc"] = "cls"
    """First token of a question: `cls` as transformers does, `enc` as the original BLIP."""
    root: str | None = None
    """What relative paths of a manifest resolve against. Default: the manifest's folder."""
    bytes_column: str | None = None
    """Column of packed Parquet that holds the encoded images. Default: found by name and type."""
    limit: int | None = None
    """Label only the first so many images."""
    max_error_share: float = 0.05
    """Stop when more than this share of images is unusable, judged after 1,000 rows and at the end."""
    retry_failed: bool = False
    """Once a run is published, do its bad rows again, into a new version."""
    allow_sensitive: str | None = None
    """Reason for asking about race, religion, orientation, health or politics; recorded in the run."""
    dry_run: bool = False
    """Show the config, the images, the resources and a measured rate, and stop."""
    storage: StorageConfig = field(default_factory=StorageConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    ray: RayConfig = field(default_factory=RayConfig)

    def __post_init__(self) -> None:
        _check(bool(self.images), "images", self.images, "an address")
        _check(bool(self.output), "output", self.output, "an address")
        _check(self.limit is None or self.limit >= 1, "limit", self.limit, "1 or more")
        _check(0.0 <= self.max_error_share <= 1.0, "max-error-share", self.max_error_share, "between 0 and 1")
        reason = self.allow_sensitive
        _check(
            reason is None or len(reason.strip()) >= 10, "allow-sensitive", reason, "a reason of ten letters or more"
        )


def _check(holds: bool, key: str, found: object, allowed: str) -> None:
    if not holds:
        raise ConfigError(f"--{key}: expected {allowed}, found {found!r}")
