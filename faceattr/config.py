"""The config of every entry point: frozen dataclasses, two levels deep, checked when they are made.

Flags are generated from them (`faceattr.cli`), so a field's docstring is its help text. Standard library only.
"""

from dataclasses import dataclass, field
from typing import Literal

from faceattr.errors import ConfigError

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
        fits = 1 <= self.max_pixels <= MAX_PIXELS
        _check(fits, "decode.max-pixels", self.max_pixels, f"1 to {MAX_PIXELS:,}, from where on Pillow objects")
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


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """How the labels are read; what a kind does not know is refused. See `faceattr.data.sources`."""

    files: tuple[str, ...] = ()
    """Label files below --root. Default: the layout's usual names."""
    image_folder: str | None = None
    """Folder below --root that image names are relative to. Default: the layout's usual places, else --root."""
    attributes: tuple[str, ...] = ()
    """Attributes to pack, in this order. Default: the layout's own; of label runs, all."""
    columns: tuple[str, ...] = ()
    """For `table`: name=column or name=column:kind, such as image=path hat=wearing_hat age=years:age
    race=Race:White|Black|Asian person=name:identity."""
    class_order: Literal["natural", "sorted"] = "natural"
    """For `fairface`: `sorted` is the order of the CLIP weights that were published with sorted class names."""


@dataclass(frozen=True, kw_only=True)
class SplitsConfig:
    """Which images become train, val and test. Byte-identical images never part."""

    train: float = 0.8
    """Share of train among the images that have no official split. The three are divided by their sum."""
    val: float = 0.1
    """Share of val."""
    test: float = 0.1
    """Share of test."""
    seed: int = 0
    """Seed of the draw and of the order of the rows. The same seed gives the same splits, whatever order images come
    in."""
    official: Literal["keep", "ignore"] = "keep"
    """Whether the splits that a source brings with it are kept."""
    rename: tuple[str, ...] = ()
    """What official splits become: val=test makes the official val the test split, train=draw draws the images of train
    by their shares, validation=val says what a name of a manifest's own means."""
    by: Literal["auto", "group", "image"] = "auto"
    """`group` keeps all images of one person in one split, `image` draws each image by itself. `auto` is `group`, but
    `image` where an identity is packed as an attribute: a head for known persons must see them in every split."""

    def __post_init__(self) -> None:
        for name in ("train", "val", "test"):
            share = getattr(self, name)
            _check(0.0 <= share < float("inf"), f"splits.{name}", share, "0 or more")
        _check(self.train + self.val + self.test > 0, "splits.train", self.train, "a share above 0 for one split")
        for entry in self.rename:
            old, _, new = entry.rpartition("=")
            known = bool(old) and new in ("train", "val", "test", "draw")
            _check(known, "splits.rename", entry, "entries such as val=test, train=draw or validation=val")
        _check(not (self.rename and self.official == "ignore"), "splits.rename", self.rename, "--splits.official keep")


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """Packs only a choice of the images: all that have one of some attributes, and so many that have none."""

    any_of: tuple[str, ...] = ()
    """Binary attributes; an image with a yes for one of them is packed."""
    negatives: int = 0
    """How many images with a no for all of them are packed besides, drawn by --splits.seed."""

    def __post_init__(self) -> None:
        _check(self.negatives >= 0, "select.negatives", self.negatives, "0 or more")
        _check(bool(self.any_of) or not self.negatives, "select.negatives", self.negatives, "--select.any-of with it")


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """Joins labels and images into shards of encoded images that training streams, one folder a split."""

    output: str
    """Run folder: a local path or s3://bucket/prefix."""
    labels: tuple[str, ...] = ()
    """Published label runs. Several tables over the same images become one: an image gets the labels of all."""
    source: Literal["celeba", "fairface", "utkface", "facecom", "label_list", "table"] | None = None
    """A data set with labels of its own, in --root; alone or beside --labels."""
    root: str | None = None
    """Folder of --source: a local path or s3://bucket/prefix."""
    conflicts: Literal["mask", "keep", "drop"] = "mask"
    """Byte-identical images whose labels cannot all be true: `mask` forgets those labels and keeps the images, `keep`
    packs them as they are, `drop` leaves the images out. They are listed in conflicts.csv in any case."""
    short_side_px: int | None = None
    """Encode every image anew as an upright JPEG; those with a longer short side are reduced to this one, pixels.
    Default: bytes as they are."""
    jpeg_quality: int | None = None
    """Quality of images that are encoded anew, 1 to 100; alone, it has them encoded in their own size. Default: 92."""
    limit: int | None = None
    """Pack only the first so many images."""
    max_error_share: float = 0.05
    """Stop when more than this share of images is unusable, judged after 1,000 rows and at the end."""
    retry_failed: bool = False
    """Once a run is published, do its bad rows again, into a new version."""
    shard_mb: int = 64
    """Most that a shard should hold, MB. A worker holds a few times as much."""
    dry_run: bool = False
    """Show the config, the rows, their splits and a measured rate, and stop."""
    source_options: SourceConfig = field(default_factory=SourceConfig)
    splits: SplitsConfig = field(default_factory=SplitsConfig)
    select: SelectConfig = field(default_factory=SelectConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    ray: RayConfig = field(default_factory=RayConfig)

    def __post_init__(self) -> None:
        _check(bool(self.output), "output", self.output, "an address")
        _check(bool(self.labels or self.source), "labels", self.labels, "a label run, or --source and --root")
        _check(len(set(self.labels)) == len(self.labels), "labels", self.labels, "every run once")
        _check(self.source is None or bool(self.root), "root", self.root, f"the folder of --source {self.source}")
        _check(self.root is None or self.source is not None, "source", self.source, "a kind that says what --root is")
        short_side = self.short_side_px
        _check(short_side is None or short_side >= 8, "short-side-px", short_side, "8 or more")
        quality = self.jpeg_quality
        _check(quality is None or 1 <= quality <= 100, "jpeg-quality", quality, "between 1 and 100")
        _check(self.limit is None or self.limit >= 1, "limit", self.limit, "1 or more")
        _check(0.0 <= self.max_error_share <= 1.0, "max-error-share", self.max_error_share, "between 0 and 1")
        _check(1 <= self.shard_mb <= 1024, "shard-mb", self.shard_mb, "between 1 and 1024")


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Predicts the attributes of images with a trained model."""

    model: str
    """A trained model: local folder, object-storage folder or hub id."""
    images: str
    """A prefix or folder of images, a manifest (.csv or .parquet with `uri` or `image_path`), or Parquet that holds
    encoded images."""
    output: str
    """Run folder: a local path or s3://bucket/prefix."""
    labels: str | None = None
    """A published label run over the same images, to report agreement with."""
    revision: str | None = None
    """Commit of a hub model. Default: what the hub gives; its weights' hash is recorded either way."""
    precision: Precision = "float32"
    """Type that the network computes in. `bfloat16` is two to three times as fast where the processor has it; scores
    then move by up to about 0.02."""
    root: str | None = None
    """What relative paths of a manifest resolve against. Default: the manifest's folder."""
    bytes_column: str | None = None
    """Column of packed Parquet that holds the encoded images. Default: found by name and type."""
    limit: int | None = None
    """Predict only the first so many images."""
    max_error_share: float = 0.05
    """Stop when more than this share of images is unusable, judged after 1,000 rows and at the end."""
    retry_failed: bool = False
    """Once a run is published, do its bad rows again, into a new version."""
    dry_run: bool = False
    """Show the config, the images, the resources and a measured rate, and stop."""
    storage: StorageConfig = field(default_factory=StorageConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    ray: RayConfig = field(default_factory=RayConfig)

    def __post_init__(self) -> None:
        for name in ("model", "images", "output"):
            _check(bool(getattr(self, name)), name, getattr(self, name), "an address")
        _check(self.labels != "", "labels", self.labels, "an address")
        _check(self.limit is None or self.limit >= 1, "limit", self.limit, "1 or more")
        _check(0.0 <= self.max_error_share <= 1.0, "max-error-share", self.max_error_share, "between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class BootstrapConfig:
    """The intervals of figures."""

    resamples: int = 1000
    """Draws for each interval."""
    seed: int = 0
    """Decides the draws."""

    def __post_init__(self) -> None:
        _check(self.resamples >= 100, "bootstrap.resamples", self.resamples, "100 or more")


@dataclass(frozen=True, kw_only=True)
class ThresholdConfig:
    """How the cuts on binary scores are chosen, on the validation split alone."""

    criterion: Literal["f1", "balanced_accuracy", "youden", "precision_at_recall", "cost", "keep"] = "f1"
    """What a threshold is best for; `keep` takes the model's own."""
    min_recall: float = 0.9
    """For precision_at_recall: the recall that must be reached."""
    cost_false_positive: float = 1.0
    """For cost."""
    cost_false_negative: float = 1.0
    """For cost."""

    def __post_init__(self) -> None:
        _check(0 < self.min_recall <= 1, "thresholds.min-recall", self.min_recall, "more than 0, at most 1")
        costs = (self.cost_false_positive, self.cost_false_negative)
        _check(min(costs) >= 0 and max(costs) > 0, "thresholds.cost-false-positive", costs, "costs of 0 or more")


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Judges a trained model on the test split: figures with intervals, groups, calibration, thresholds, reports."""

    model: str
    """A trained model: local folder, object-storage folder or hub id."""
    data: tuple[str, ...]
    """Packed runs (pipelines/pack.py)."""
    output: str
    """Folder for the results: a local path or s3://bucket/prefix; nothing in it is overwritten."""
    compare: str | None = None
    """A second model, judged on the same rows."""
    group_by: tuple[str, ...] = ()
    """Attributes of the data by which figures are split, separated by commas or spaces, such as race,gender."""
    min_group: int = 30
    """Groups with fewer rows are marked, and left out of gaps."""
    calibration: Literal["temperature", "isotonic", "none", "keep"] = "temperature"
    """How scores are calibrated, on the validation split alone; `keep` takes the model's own."""
    split: Literal["test", "val", "train"] = "test"
    """What is judged. On another split than test nothing is fitted: the model's own thresholds and calibration hold."""
    label_list: str | None = None
    """A label list (path and label a line, in any of its forms): test_labels.txt is written in its layout."""
    samples: bool = False
    """Draw a grid of test images, true against predicted. It copies images into the output."""
    revision: str | None = None
    """Commit of a hub model."""
    precision: Precision = "float32"
    """Type that the network computes in."""
    thresholds: ThresholdConfig = field(default_factory=ThresholdConfig)
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    ray: RayConfig = field(default_factory=RayConfig)

    def __post_init__(self) -> None:
        for name in ("model", "output"):
            _check(bool(getattr(self, name)), name, getattr(self, name), "an address")
        _check(bool(self.data) and all(self.data), "data", self.data, "packed runs")
        _check(self.min_group >= 1, "min-group", self.min_group, "1 or more")

    @property
    def groups(self) -> tuple[str, ...]:
        """`group_by` with its commas taken apart."""
        return tuple(name for each in self.group_by for name in each.split(",") if name)


def _check(holds: bool, key: str, found: object, allowed: str) -> None:
    if not holds:
        raise ConfigError(f"--{key}: expected {allowed}, found {found!r}")
