"""The config of `pipelines/train.py`: what `fit` reads, and the model, the data, the workers around it. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

from faceattr.config import RayConfig, StorageConfig, ThresholdConfig
from faceattr.config.flags import check_each_once
from faceattr.errors import ConfigError
from faceattr.models.augmentation import Augmentation, AugmentSettings
from faceattr.training.config import FitConfig, LossConfig, OptimConfig, OptimSettings, SelectionConfig

KEPT_THRESHOLDS = ThresholdConfig(criterion="keep")
HeadPreset = Literal["linear", "mlp", "utkface_vit", "celeba4"]


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The network."""

    backbone: str = "resnet18"
    """A timm model (resnet50, vit_base_patch16_224.augreg_in21k, vit_base_patch16_clip_quickgelu_224.openai), `hf:`
    and a CLIP model, or a local folder with one."""
    pretrained: bool = True
    """Start from the backbone's published weights; else from random ones."""
    image_size: int | None = None
    """Side of the images in px. Default: the backbone's own."""
    crop_fraction: float | Literal["auto", "backbone"] = field(default="auto", metadata={"before": "backbone"})
    """Side of the square that evaluation and prediction look at, over the image's shorter side, in (0, 1]. `backbone`:
    what the weights were published with, 0.875 for many, which cuts hats and beards off images of faces alone. auto: 1;
    a checkpoint keeps its own."""
    args: Mapping[str, str] = field(default_factory=dict)
    """Further arguments of timm's constructor, name and value: drop_path_rate 0.1."""
    head: HeadPreset = "linear"
    """Shape of the heads: linear, mlp (128 units), or those of the presets utkface_vit and celeba4."""
    age_output: Literal["distribution", "regression"] | None = None
    """How an age is given: a distribution over the years, or one number. Default: as the head says."""
    checkpoint: str | None = None
    """A model folder that pipelines/train.py wrote, to go on from: its backbone, and its heads of attributes that the
    data have too. The backbone's name, size, args and `pretrained` are then not read."""

    def __post_init__(self) -> None:
        _check(bool(self.backbone), "model.backbone", self.backbone, "a name")
        _check(self.image_size is None or self.image_size >= 1, "model.image-size", self.image_size, "1 or more")
        fraction = self.crop_fraction
        _check(
            fraction in ("auto", "backbone") or (not isinstance(fraction, str) and 0 < fraction <= 1),
            "model.crop-fraction",
            fraction,
            "more than 0, at most 1, or auto, or backbone",
        )


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Small trainable matrices beside frozen linear layers. They are merged when the model is saved."""

    rank: int = 0
    """Of the matrices; 0 is no LoRA."""
    alpha: int = 16
    """Their product counts alpha / rank."""
    dropout: float = 0.0
    """On their input, in [0, 1)."""
    targets: tuple[str, ...] = ()
    """Endings of names of linear layers. Default: the attention projections."""
    dora: bool = False
    """Weight-decomposed LoRA."""

    def __post_init__(self) -> None:
        _check(self.rank >= 0, "lora.rank", self.rank, "0 or more")
        _check(self.alpha > 0, "lora.alpha", self.alpha, "more than 0")
        _check(0 <= self.dropout < 1, "lora.dropout", self.dropout, "at least 0 and below 1")


@dataclass(frozen=True, kw_only=True)
class FreezeSettings:
    """What trains when. Heads always train."""

    depth: int | Literal["all"] = 0
    """Leading blocks that do not train: 0 none, 1 the stem, ..., -1 or `all` the whole backbone. With a schedule: in
    its last stage."""
    schedule: Literal["constant", "two-stage", "gradual"] = "constant"
    """`two-stage` trains the heads on a frozen backbone first; `gradual` then thaws it from the last block down."""
    head_epochs: int = 5
    """two-stage: epochs of the first stage, out of --optim.epochs."""
    head_lr: float | None = None
    """two-stage: learning rate of the first stage. Default: --optim.lr."""
    lr_factor: float = 1.0
    """gradual: on the learning rate from each stage to the next."""
    num_steps: int | None = None
    """gradual: number of stages after the first. Default: one a block, as far as epochs reach."""

    def __post_init__(self) -> None:
        depth = self.depth
        _check(depth == "all" or depth >= -1, "freeze.depth", depth, "-1 or more, or all")
        choices = ("constant", "two-stage", "gradual")
        _check(self.schedule in choices, "freeze.schedule", self.schedule, f"one of {', '.join(choices)}")
        _check(self.head_epochs >= 1, "freeze.head-epochs", self.head_epochs, "1 or more")
        _check(self.head_lr is None or self.head_lr > 0, "freeze.head-lr", self.head_lr, "more than 0")
        _check(self.lr_factor > 0, "freeze.lr-factor", self.lr_factor, "more than 0")
        _check(self.num_steps is None or self.num_steps >= 1, "freeze.num-steps", self.num_steps, "1 or more")


@dataclass(frozen=True, kw_only=True)
class FeedSettings:
    """How images come to the workers. Which images make a batch depends on none of them but the first three."""

    batch_size: int = 64
    """Images in a batch, over all workers; --optim.accumulation batches make one step."""
    balance: tuple[str, ...] = ()
    """Attributes whose combinations of classes are drawn equally often, such as gender and race_group."""
    shuffle_rows: int = 8_192
    """Images that are mixed at a time; such a window is made of stretches drawn at random from all files."""
    block_rows: int = 128
    """Images in one unit of decoding."""
    decode_cpus: float = 0.5
    """Logical CPUs that a decoding task claims."""
    max_decoders: int | None = None
    """Decoding tasks of one worker at a time. Default: its share of the cluster's free CPUs, at least 1."""
    cache_mb: int = 512
    """Decoded validation images that a worker keeps rather than decode them in every epoch, MB."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "shuffle_rows", "block_rows"):
            _check(getattr(self, name) >= 1, f"feed.{_flag(name)}", getattr(self, name), "1 or more")
        _check(self.decode_cpus > 0, "feed.decode-cpus", self.decode_cpus, "more than 0")
        _check(self.max_decoders is None or self.max_decoders >= 1, "feed.max-decoders", self.max_decoders, "1 or more")
        _check(self.cache_mb >= 0, "feed.cache-mb", self.cache_mb, "0 or more")


@dataclass(frozen=True, kw_only=True)
class TrainWorkersSettings:
    """The processes that train together, one a GPU."""

    num_workers: int = 1
    """How many; with --workers.min-workers the most."""
    min_workers: int | None = None
    """Fewest workers: training then goes on with what the cluster has. Default: exactly --workers.num-workers."""
    use_gpu: bool = False
    """One GPU for each worker; else CPUs."""
    backend: Literal["auto", "nccl", "gloo"] = "auto"
    """How workers exchange gradients; auto: nccl between GPUs, gloo between CPUs (and logical GPUs, if you say so)."""
    cpus_per_worker: float = 0.5
    """Logical CPUs that a worker claims. Below 1 decoding finds room beside it."""
    threads: int | None = None
    """CPU threads that a worker's network computes with. Default: on a GPU the machine's cores over its workers; else
    as many of these as suit its speed beside that of decoding, both measured before the first step."""
    max_failures: int = 3
    """How often a lost worker or node is survived, each time from the last checkpoint; -1 is for ever."""
    wait_s: float = 600.0
    """How long to wait for room for the workers before giving up, seconds."""

    def __post_init__(self) -> None:
        _check(self.num_workers >= 1, "workers.num-workers", self.num_workers, "1 or more")
        least = self.min_workers
        _check(least is None or least >= 1, "workers.min-workers", least, "1 or more")
        _check(least is None or least <= self.num_workers, "workers.min-workers", least, "at most num-workers")
        _check(self.cpus_per_worker > 0, "workers.cpus-per-worker", self.cpus_per_worker, "more than 0")
        _check(self.threads is None or self.threads >= 1, "workers.threads", self.threads, "1 or more")
        _check(self.max_failures >= -1, "workers.max-failures", self.max_failures, "-1 or more")
        _check(self.wait_s > 0, "workers.wait-s", self.wait_s, "more than 0")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Trains one model for all attributes of some packed runs."""

    data: tuple[str, ...]
    """Packed runs: local paths or s3://bucket/prefix. Several are trained on together; what one lacks is unknown."""
    output: str
    """Model folder: a local path or s3://bucket/prefix."""
    preset: str | None = None
    """Settings to begin with; a --config file and flags win over them. Each of the replaced systems has one."""
    attributes: tuple[str, ...] = ()
    """Attributes to learn. Default: all that the data have."""
    seed: int = 42
    """Of the weights of new heads, the order of the images, their augmentation, dropout and mixup."""
    dry_run: bool = False
    """Check everything, show the plan, and stop."""
    model: ModelSettings = field(default_factory=ModelSettings)
    lora: LoraSettings = field(default_factory=LoraSettings)
    freeze: FreezeSettings = field(default_factory=FreezeSettings)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimSettings = field(default_factory=OptimSettings)
    select: SelectionConfig = field(default_factory=SelectionConfig)
    thresholds: ThresholdConfig = field(default=KEPT_THRESHOLDS, metadata={"before": KEPT_THRESHOLDS})
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    feed: FeedSettings = field(default_factory=FeedSettings)
    workers: TrainWorkersSettings = field(default_factory=TrainWorkersSettings)
    storage: StorageConfig = field(default_factory=StorageConfig)
    ray: RayConfig = field(default_factory=RayConfig)

    def __post_init__(self) -> None:
        _check(bool(self.data) and all(self.data), "data", self.data, "at least one address")
        _check(bool(self.output), "output", self.output, "an address")
        _check(self.seed >= 0, "seed", self.seed, "0 or more")
        for key, names in (
            ("data", self.data),
            ("attributes", self.attributes),
            ("feed.balance", self.feed.balance),
            ("loss.class-weighted", self.loss.class_weighted),
            ("lora.targets", self.lora.targets),
        ):
            check_each_once(key, names)
        size, workers = self.feed.batch_size, self.workers.num_workers
        _check(size >= workers, "feed.batch-size", size, f"at least one image for each of {workers} workers")
        two_stages, epochs = self.freeze.schedule == "two-stage", self.optim.epochs
        _check(
            not two_stages or self.freeze.head_epochs < epochs,
            "freeze.head-epochs",
            self.freeze.head_epochs,
            f"less than --optim.epochs ({epochs}), which counts both stages",
        )
        # Checks what no group can see alone.
        FitConfig(loss=self.loss, optim=OptimConfig(accumulation=self.optim.accumulation))

    @property
    def fit(self) -> FitConfig:
        """What the loop reads. Raises ConfigError while a setting is `auto`; see `faceattr.training.recipe`."""
        optim = OptimConfig(**{each.name: getattr(self.optim, each.name) for each in fields(self.optim)})
        return FitConfig(loss=self.loss, optim=optim, select=self.select, seed=self.seed)

    @property
    def augmentation(self) -> Augmentation:
        """What training images go through. Raises ConfigError while its strength is `auto`."""
        return Augmentation(**{each.name: getattr(self.augment, each.name) for each in fields(self.augment)})


def _flag(name: str) -> str:
    return name.replace("_", "-")


def _check(holds: bool, key: str, found: object, allowed: str) -> None:
    if not holds:
        raise ConfigError(f"--{key}: expected {allowed}, found {found!r}")
