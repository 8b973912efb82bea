"""The config of `tune/search.py`. No torch."""

from dataclasses import dataclass, field
from typing import Literal

from faceattr.config import RayConfig, StorageConfig, ThresholdConfig
from faceattr.config.checks import check, check_choice
from faceattr.config.evaluate import Criterion, CriterionName
from faceattr.config.flags import check_each_once
from faceattr.config.shared import LoggerName

Algorithm = Literal["tpe", "random"]
StopRule = Literal["rank", "bounds"]


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What a trial is judged by: a score on validation rows, at thresholds chosen on other rows; larger is better."""

    main: str | None = None
    """The attribute that is judged. Default: --loss.main of the trained config; without one, the mean over all."""
    criterion: CriterionName = "f1"
    """Score of binary attributes. Others: macro F1 (balanced accuracy if that or youden is chosen here), top-1 accuracy
    of identities, share of ages predicted within five years."""
    min_recall: float = 0.9
    """precision_at_recall: the recall that must be reached."""
    cost_false_positive: float = 1.0
    """cost: cost of a false positive."""
    cost_false_negative: float = 1.0
    """cost: cost of a false negative."""
    auxiliary_weight: float = 0.0
    """Weight of the mean over the other attributes in the objective, in [0, 1]; the main attribute has the rest."""
    two: bool = False
    """Search for the Pareto front of main and auxiliary attributes instead of one best value."""

    def __post_init__(self) -> None:
        weight = self.auxiliary_weight
        check(0 <= weight <= 1, "objective.auxiliary-weight", weight, "a number from 0 to 1")
        _ = self.to_criterion()

    @property
    def thresholds(self) -> ThresholdConfig:
        """The settings with which `pipelines/train.py` chooses thresholds as the search does."""
        return ThresholdConfig(
            criterion=self.criterion,
            min_recall=self.min_recall,
            cost_false_positive=self.cost_false_positive,
            cost_false_negative=self.cost_false_negative,
        )

    def to_criterion(self) -> Criterion:
        """Returns the criterion of thresholds, for `faceattr.evaluation.thresholds`."""
        return Criterion(
            name=self.criterion,
            min_recall=self.min_recall,
            cost_false_positive=self.cost_false_positive,
            cost_false_negative=self.cost_false_negative,
        )


@dataclass(frozen=True, kw_only=True)
class StopConfig:
    """Asynchronous successive halving: trials that are worse than others after as many epochs are stopped."""

    enabled: bool = True
    """Stop weak trials early. Trials that train as one stack are never stopped, since they cost next to nothing."""
    grace_epochs: int | Literal["auto"] = "auto"
    """Epochs that every trial gets. auto: the square root of the epochs, but one epoch after the warm-up and after the
    first of two stages; a search that began with another number keeps it."""
    reduction: int = 3
    """Of the trials that reach a rung, one in REDUCTION continues; the next rung has REDUCTION times as many epochs."""
    rule: StopRule = field(default="rank", metadata={"before": "rank"})
    """`rank` stops a trial whose objective is below that of the best one in REDUCTION. `bounds` stops it only if the
    upper bound of its objective is below the lower bound of theirs (95 % intervals over resampled validation images),
    which costs more epochs where trials are close."""

    def __post_init__(self) -> None:
        grace = self.grace_epochs
        check(grace == "auto" or grace >= 1, "stop.grace-epochs", grace, "1 or more, or auto")
        check_choice("stop.rule", self.rule, StopRule)
        check(self.reduction >= 2, "stop.reduction", self.reduction, "2 or more")


@dataclass(frozen=True, kw_only=True)
class RepeatConfig:
    """Repeats of the best trials with other seeds: the winner is then the one with the best mean."""

    top: int = 0
    """How many of the best trials are repeated; 0: none."""
    seeds: int = 3
    """Seeds of each of them, the one that it was drawn with included."""

    def __post_init__(self) -> None:
        check(self.top >= 0, "repeat.top", self.top, "0 or more")
        check(self.seeds >= 2, "repeat.seeds", self.seeds, "2 or more, since one is that of the trial itself")


NO_REPEATS = RepeatConfig()


@dataclass(frozen=True, kw_only=True)
class TrialsConfig:
    """Resources of a trial. Trials with several workers also take the resources in --workers of the trained config."""

    cpus: float = 1.0
    """Logical CPUs per trial."""
    gpus: float = 0.0
    """GPUs per trial; trials with a fraction share one GPU."""
    max_concurrent: int | None = None
    """Largest number of concurrent trials. Default: as many as the cluster has room for."""
    threads: int | None = None
    """CPU threads per trial. Default: on cached features and on a GPU, the trial's CPUs, at least 1; on images, as many
    as balance the network's speed with that of decoding, measured before the first step."""
    checkpoint_s: float = 60.0
    """Seconds between checkpoints of a trial; a stopped search resumes trials from them."""
    stack: Literal["auto", "off"] = "auto"
    """Train trials that consist of heads on cached features all at once, in one process."""
    stack_size: int = 256
    """Largest number of trials in one stack. With --algorithm tpe, at most a quarter of the trials (but 8 or more), so
    that TPE can learn from earlier stacks."""

    def __post_init__(self) -> None:
        check(self.cpus > 0, "trials.cpus", self.cpus, "more than 0")
        gpus = self.gpus
        check(gpus >= 0 and (gpus <= 1 or gpus == int(gpus)), "trials.gpus", gpus, "0 to 1, or a whole number")
        for name in ("max_concurrent", "threads"):
            value = getattr(self, name)
            check(value is None or value >= 1, f"trials.{name.replace('_', '-')}", value, "1 or more")
        check(self.checkpoint_s > 0, "trials.checkpoint-s", self.checkpoint_s, "more than 0")
        check(self.stack_size >= 1, "trials.stack-size", self.stack_size, "1 or more")


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """The cache of activations at the boundary of the frozen blocks, which trials share."""

    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Data type of stored activations. The 16-bit types take half the space and round the values."""
    views: int = 0
    """Number of random views that are cached per training image; epoch e uses view e modulo this number. 0: trials with
    augmentation are not cached."""
    max_gb: float = 100.0
    """Largest cache, in GB; pooled features of fully frozen backbones are cached whatever their size."""
    batch_size: int | None = None
    """Images per forward pass of the frozen blocks. Default: 256 on a GPU, 32 on a CPU."""
    actors: int | None = None
    """Actors that compute activations. Default: one per GPU, or one per CPU core."""

    def __post_init__(self) -> None:
        check(self.views >= 0, "features.views", self.views, "0 or more")
        check(self.max_gb > 0, "features.max-gb", self.max_gb, "more than 0")
        for name in ("batch_size", "actors"):
            value = getattr(self, name)
            check(value is None or value >= 1, f"features.{name.replace('_', '-')}", value, "1 or more")


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Searches for settings of `pipelines/train.py`: loss weights, freeze depth, learning rates, thresholds."""

    data: tuple[str, ...] = ()
    """Packed runs: local paths or s3://bucket/prefix."""
    output: str = ""
    """Folder of the search: a local path or s3://bucket/prefix."""
    resume: str | None = None
    """Folder of a search to resume; its settings are read from there. --num-samples may then be raised."""
    space: str | None = None
    """YAML file with keys of the train config and the values they may take, or the name of a built-in one: demo,
    clear_face, loss_weights, depth. Default: a space that fits the data's attributes."""
    train: str | None = None
    """Settings that all trials share: a YAML file as for pipelines/train.py --config, or the name of a preset."""
    set: tuple[str, ...] = ()
    """Further shared settings, as key=value: optim.epochs=5 model.backbone=resnet50."""
    num_samples: int | None = None
    """Number of trials. Default: 32."""
    algorithm: Algorithm = "tpe"
    """`tpe` learns from finished trials (Optuna); `random` does not."""
    seed: int = 0
    """Random seed of the drawn settings and of the two halves of validation. The trials' seed is that of the train
    config."""
    cache: Literal["auto", "on", "off"] = "auto"
    """Compute frozen blocks once for all trials. auto: if it saves time; on: wherever possible; off: never."""
    dry_run: bool = False
    """Check everything, show the space and the plan, and stop."""
    loggers: tuple[LoggerName, ...] = field(default=(), metadata={"before": ()})
    """Also report every trial and its settings to Weights & Biases (wandb) or MLflow (mlflow), set up by their own
    environment variables; see docs/sharing.md."""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    stop: StopConfig = field(default_factory=StopConfig)
    repeat: RepeatConfig = field(default=NO_REPEATS, metadata={"before": NO_REPEATS})
    trials: TrialsConfig = field(default_factory=TrialsConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    ray: RayConfig = field(default_factory=RayConfig)

    def __post_init__(self) -> None:
        if self.resume is None:
            check(bool(self.data) and all(self.data), "data", self.data, "at least one packed run (or --resume)")
            check(bool(self.output), "output", self.output, "an address (or --resume)")
        else:
            check(not self.output, "output", self.output, "no value together with --resume, which names the folder")
        check(self.num_samples is None or self.num_samples >= 1, "num-samples", self.num_samples, "1 or more")
        check(self.seed >= 0, "seed", self.seed, "0 or more")
        wrong = [each for each in self.set if "=" not in each]
        check(not wrong, "set", wrong, "key=value")
        check_each_once("set", [each.partition("=")[0].strip().replace("-", "_") for each in self.set])
        check_each_once("data", self.data)
        check_each_once("loggers", self.loggers)
