"""The config of `pipelines/train.py`: what `fit` reads, and the model, the data and the workers. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

from faceattr.config import RayConfig, StorageConfig, ThresholdConfig
from faceattr.config.augmentation import Augmentation, AugmentSettings
from faceattr.config.checks import check, check_choice, flag_name
from faceattr.config.fit import FitConfig, LossConfig, OptimConfig, OptimSettings, SelectionConfig
from faceattr.config.flags import check_each_once
from faceattr.config.shared import LoggerName

KEPT_THRESHOLDS = ThresholdConfig(criterion="keep")
CompileChoice = Literal["auto", "on", "off"]
BatchNormMode = Literal["train", "frozen", "sync"]
ResumePlace = Literal["last", "best"]
HeadPreset = Literal["linear", "mlp", "utkface_vit", "celeba4"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network."""

    backbone: str = "resnet18"
    """Name of a timm model (resnet50, vit_base_patch16_224.augreg_in21k, vit_base_patch16_clip_quickgelu_224.openai),
    `hf:` followed by the name of a vision model of transformers (CLIP, SigLIP, DINOv2, DINOv3, ConvNeXt and others), a
    local folder that contains one, or a file of CLIP weights in OpenAI's layout, such as FaRL's."""
    pretrained: bool = True
    """Start from the backbone's published weights. Off: from random weights."""
    image_size: int | None = None
    """Side length of the network's input, in pixels. Default: the backbone's own."""
    crop_fraction: float | Literal["auto", "backbone"] = field(default="auto", metadata={"before": "backbone"})
    """Side of the square that evaluation and prediction crop from the centre, as a share of the image's shorter side,
    in (0, 1]. `backbone`: the value the weights were published with, often 0.875, which cuts hats and beards off images
    of single faces. auto: 1; a --model.checkpoint keeps its own value."""
    args: Mapping[str, str] = field(default_factory=dict)
    """Further arguments of timm's constructor, as name and value: drop_path_rate 0.1. For a file of CLIP weights:
    hidden_act gelu, if they were not trained with QuickGELU."""
    batch_norm: BatchNormMode = field(default="train", metadata={"before": "train"})
    """What the backbone's batch norms do in training. `frozen`: they keep their statistics and weights, for small
    batches and weights that are trained already; `sync`: the workers share the statistics of a batch, on GPUs only."""
    head: HeadPreset = "linear"
    """Layers of the heads: `linear`, `mlp` (one hidden layer of 128 units), or the heads of the preset `utkface_vit` or
    `celeba4`."""
    age_output: Literal["distribution", "regression"] | None = None
    """Output of age heads: a distribution over years, or one number. Default: as --model.head defines it."""
    checkpoint: str | None = None
    """A model folder of pipelines/train.py to start from: its backbone, and its heads of attributes that the data also
    have. --model.backbone, --model.pretrained, --model.image-size and --model.args are then ignored."""

    def __post_init__(self) -> None:
        check(bool(self.backbone), "model.backbone", self.backbone, "a name")
        check_choice("model.batch-norm", self.batch_norm, BatchNormMode)
        check(self.image_size is None or self.image_size >= 1, "model.image-size", self.image_size, "1 or more")
        fraction = self.crop_fraction
        check(
            fraction in ("auto", "backbone") or (not isinstance(fraction, str) and 0 < fraction <= 1),
            "model.crop-fraction",
            fraction,
            "more than 0, at most 1, or auto, or backbone",
        )


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Low-rank adaptation: small trainable matrices beside frozen linear layers. Saving the model merges them."""

    rank: int = 0
    """Rank of the matrices; 0: no LoRA."""
    alpha: int = 16
    """The product of the matrices is scaled by alpha / rank."""
    dropout: float = 0.0
    """Dropout on the input of the matrices, in [0, 1)."""
    targets: tuple[str, ...] = ()
    """Name endings of the linear layers that are adapted. Default: the attention projections."""
    dora: bool = False
    """Use weight-decomposed LoRA (DoRA)."""

    def __post_init__(self) -> None:
        check(self.rank >= 0, "lora.rank", self.rank, "0 or more")
        check(self.alpha > 0, "lora.alpha", self.alpha, "more than 0")
        check(0 <= self.dropout < 1, "lora.dropout", self.dropout, "at least 0 and below 1")


@dataclass(frozen=True, kw_only=True)
class FreezeConfig:
    """Which blocks of the backbone train in which stage. Heads always train."""

    depth: int | Literal["all"] = 0
    """Number of leading blocks that stay frozen: 0 none, 1 the stem, ..., -1 or `all` the whole backbone. With a
    schedule, this holds in its last stage."""
    schedule: Literal["constant", "two-stage", "gradual"] = "constant"
    """`two-stage` first trains the heads on a frozen backbone; `gradual` then unfreezes blocks from the last to the
    first."""
    head_epochs: int = 5
    """two-stage: epochs of the first stage, out of --optim.epochs."""
    head_lr: float | None = None
    """two-stage: learning rate of the first stage. Default: --optim.lr."""
    lr_factor: float = 1.0
    """gradual: factor on the learning rate from each stage to the next."""
    num_steps: int | None = None
    """gradual: number of stages after the first. Default: one per block, as far as the epochs suffice."""

    def __post_init__(self) -> None:
        depth = self.depth
        check(depth == "all" or depth >= -1, "freeze.depth", depth, "-1 or more, or all")
        choices = ("constant", "two-stage", "gradual")
        check(self.schedule in choices, "freeze.schedule", self.schedule, f"one of {', '.join(choices)}")
        check(self.head_epochs >= 1, "freeze.head-epochs", self.head_epochs, "1 or more")
        check(self.head_lr is None or self.head_lr > 0, "freeze.head-lr", self.head_lr, "more than 0")
        check(self.lr_factor > 0, "freeze.lr-factor", self.lr_factor, "more than 0")
        check(self.num_steps is None or self.num_steps >= 1, "freeze.num-steps", self.num_steps, "1 or more")


@dataclass(frozen=True, kw_only=True)
class FeedConfig:
    """How images reach the workers. Only the first four settings decide which images form a batch."""

    batch_size: int | Literal["auto"] = "auto"
    """Images per batch, over all workers; --optim.accumulation batches make one optimizer step. auto: 64; 32 where a
    network from random weights gets few steps, since it learns more from twice as many."""
    balance: tuple[str, ...] = ()
    """Attributes of the data, learnt or not, whose combinations of classes are drawn equally often, such as gender and
    race_group. Ages are classed by decade."""
    balance_power: float = field(default=1.0, metadata={"before": 1.0})
    """How far --feed.balance goes, in (0, 1]: 1 draws all combinations equally often; 0.5, in proportion to the square
    root of their numbers of images, repeats rare images less."""
    shuffle_rows: int = 8_192
    """Images per shuffle window. A window consists of row groups that are drawn at random from all files."""
    block_rows: int = 128
    """Images per decoding task."""
    decode_cpus: float = 0.5
    """Logical CPUs that a decoding task requests."""
    max_decoders: int | None = None
    """Largest number of decoding tasks per worker. Default: the worker's share of the cluster's free CPUs, at least
    1."""
    cache_mb: int = 512
    """Memory per worker for decoded validation images, in MB; images in it are not decoded again in every epoch."""

    def __post_init__(self) -> None:
        size = self.batch_size
        check(size == "auto" or size >= 1, "feed.batch-size", size, "1 or more, or auto")
        for name in ("shuffle_rows", "block_rows"):
            check(getattr(self, name) >= 1, f"feed.{flag_name(name)}", getattr(self, name), "1 or more")
        check(0 < self.balance_power <= 1, "feed.balance-power", self.balance_power, "more than 0, at most 1")
        alone = self.balance_power != 1 and not self.balance
        check(not alone, "feed.balance-power", self.balance_power, "1 without --feed.balance")
        check(self.decode_cpus > 0, "feed.decode-cpus", self.decode_cpus, "more than 0")
        check(self.max_decoders is None or self.max_decoders >= 1, "feed.max-decoders", self.max_decoders, "1 or more")
        check(self.cache_mb >= 0, "feed.cache-mb", self.cache_mb, "0 or more")

    @property
    def settled_batch_size(self) -> int:
        """`batch_size`, once `faceattr.training.recipe` has settled it."""
        assert self.batch_size != "auto", "resolve_recipe settles it before anything is trained"
        return self.batch_size


@dataclass(frozen=True, kw_only=True)
class TrainWorkersConfig:
    """The processes that train together, one per GPU."""

    num_workers: int = 1
    """Number of workers; with --workers.min-workers, the largest number."""
    min_workers: int | None = None
    """Least number of workers: training continues with as many as the cluster can hold. Default: exactly
    --workers.num-workers."""
    use_gpu: bool = False
    """Use one GPU per worker. Off: CPUs."""
    backend: Literal["auto", "nccl", "gloo"] = "auto"
    """How workers exchange gradients. auto: nccl between GPUs, gloo between CPUs. Logical GPUs need gloo."""
    cpus_per_worker: float = 0.5
    """Logical CPUs that a worker requests. A value below 1 leaves room for decoding on the same core."""
    threads: int | None = None
    """CPU threads of a worker's network. Default: on a GPU, the machine's cores divided by its workers; on CPUs, the
    part of those that balances the network's speed with that of decoding, both measured before the first step."""
    compile: CompileChoice = "auto"
    """Compile the network as one graph (torch.compile), which takes about a minute per stage and process and makes a
    training on GPUs up to 1.3 times as fast. auto: on one GPU, if a stage sees at least 4,000,000 images, each counted
    once an epoch; else off, as in searches."""
    recompute: bool = False
    """Keep only the activations between the backbone's blocks in memory, and compute the others again for the gradients
    (gradient checkpointing): about a third slower, in a fraction of the memory, with the same results."""
    max_failures: int = 3
    """How many losses of a worker or node are survived; each time training resumes from the last checkpoint. -1: no
    limit."""
    wait_s: float = 600.0
    """Seconds to wait for the workers' resources before giving up."""

    def __post_init__(self) -> None:
        check(self.num_workers >= 1, "workers.num-workers", self.num_workers, "1 or more")
        least = self.min_workers
        check(least is None or least >= 1, "workers.min-workers", least, "1 or more")
        check(least is None or least <= self.num_workers, "workers.min-workers", least, "at most num-workers")
        check_choice("workers.compile", self.compile, CompileChoice)
        check(self.cpus_per_worker > 0, "workers.cpus-per-worker", self.cpus_per_worker, "more than 0")
        check(self.threads is None or self.threads >= 1, "workers.threads", self.threads, "1 or more")
        check(self.max_failures >= -1, "workers.max-failures", self.max_failures, "-1 or more")
        check(self.wait_s > 0, "workers.wait-s", self.wait_s, "more than 0")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Trains one model for all attributes of some packed runs."""

    data: tuple[str, ...]
    """Packed runs: local paths or s3://bucket/prefix. Several are trained on together; an attribute that one of them
    lacks is unknown for its images."""
    output: str
    """Model folder: a local path or s3://bucket/prefix."""
    preset: str | None = None
    """Name of predefined settings; a --config file and flags override them. Each replaced system has a preset."""
    resume_from: str | None = field(default=None, metadata={"before": None})
    """Model folder of another training that stopped, failed, diverged or finished: start from its last good checkpoint,
    with its settings as far as flags, --config and --preset give no others. Attributes and network stay; its epochs
    count in --optim.epochs. It is recorded in run.json, and has to exist until the new training has finished. To resume
    with the same settings, repeat the command instead."""
    resume_at: ResumePlace = field(default="last", metadata={"before": "last"})
    """Which checkpoint of --resume-from: the `last` one, or that of the `best` epoch, if the last epochs are spoilt."""
    attributes: tuple[str, ...] = ()
    """Attributes to learn. Default: all attributes of the data."""
    seed: int = 42
    """Random seed of the weights of new heads, the order of the images, augmentation, dropout, mixup and
    CutMix."""
    dry_run: bool = False
    """Check everything, show the plan, and stop."""
    loggers: tuple[LoggerName, ...] = field(default=(), metadata={"before": ()})
    """Also report every epoch and the settings to Weights & Biases (wandb) or MLflow (mlflow), set up by their own
    environment variables; see docs/sharing.md."""
    model: ModelConfig = field(default_factory=ModelConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    freeze: FreezeConfig = field(default_factory=FreezeConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimSettings = field(default_factory=OptimSettings)
    select: SelectionConfig = field(default_factory=SelectionConfig)
    thresholds: ThresholdConfig = field(default=KEPT_THRESHOLDS, metadata={"before": KEPT_THRESHOLDS})
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    feed: FeedConfig = field(default_factory=FeedConfig)
    workers: TrainWorkersConfig = field(default_factory=TrainWorkersConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    ray: RayConfig = field(default_factory=RayConfig)

    def __post_init__(self) -> None:
        check(bool(self.data) and all(self.data), "data", self.data, "at least one address")
        check(bool(self.output), "output", self.output, "an address")
        check(self.seed >= 0, "seed", self.seed, "0 or more")
        check(self.resume_from != "", "resume-from", self.resume_from, "an address")
        check_choice("resume-at", self.resume_at, ResumePlace)
        for key, names in (
            ("data", self.data),
            ("loggers", self.loggers),
            ("attributes", self.attributes),
            ("feed.balance", self.feed.balance),
            ("loss.class-weighted", self.loss.class_weighted),
            ("loss.logit-adjusted", self.loss.logit_adjusted),
            ("loss.ordinal", self.loss.ordinal),
            ("lora.targets", self.lora.targets),
        ):
            check_each_once(key, names)
        size, workers = self.feed.batch_size, self.workers.num_workers
        check(
            size == "auto" or size >= workers,
            "feed.batch-size",
            size,
            f"at least one image for each of {workers} workers",
        )
        two_stages, epochs = self.freeze.schedule == "two-stage", self.optim.epochs
        check(
            not two_stages or self.freeze.head_epochs < epochs,
            "freeze.head-epochs",
            self.freeze.head_epochs,
            f"less than --optim.epochs ({epochs}), which counts both stages",
        )
        # Checks that need several groups.
        norm, start = self.model.batch_norm, self.model.pretrained or self.model.checkpoint is not None
        check(norm != "frozen" or start, "model.batch-norm", norm, "train or sync for random weights")
        check(
            norm != "sync" or self.workers.use_gpu,
            "model.batch-norm",
            norm,
            "train or frozen without --workers.use-gpu, since torch shares statistics between GPUs only",
        )
        given = self.optim
        optim = OptimConfig(
            accumulation=given.accumulation, mixup_alpha=given.mixup_alpha, cutmix_alpha=given.cutmix_alpha
        )
        FitConfig(loss=self.loss, optim=optim)

    @property
    def fit(self) -> FitConfig:
        """What `fit` reads. Raises ConfigError while a setting is `auto`; see `faceattr.training.recipe`."""
        optim = OptimConfig(**{each.name: getattr(self.optim, each.name) for each in fields(self.optim)})
        return FitConfig(loss=self.loss, optim=optim, select=self.select, seed=self.seed)

    @property
    def augmentation(self) -> Augmentation:
        """Augmentation of training images. Raises ConfigError while a setting of it is `auto`."""
        return Augmentation(**{each.name: getattr(self.augment, each.name) for each in fields(self.augment)})
