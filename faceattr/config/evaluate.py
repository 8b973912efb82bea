"""The config of `pipelines/eval.py`, and the criterion of thresholds, which training and search share."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from faceattr.config.checks import check
from faceattr.config.flags import check_each_once
from faceattr.config.shared import DecodeConfig, PrecisionChoice, RayConfig, StorageConfig, WorkersConfig
from faceattr.errors import ConfigError

CriterionName = Literal["f1", "balanced_accuracy", "youden", "precision_at_recall", "cost"]


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """What a threshold maximises.

    Attributes:
        name: `f1`; `balanced_accuracy`; `youden`, recall of yes + recall of no - 1; `precision_at_recall`, the
            precision if recall is at least `min_recall`, and less in proportion if it is not; `cost`, minus the mean
            cost of a row.
        min_recall: for `precision_at_recall`, in (0, 1].
        cost_false_positive: for `cost`, 0 or more.
        cost_false_negative: for `cost`, 0 or more.
    """

    name: CriterionName = "f1"
    min_recall: float = 0.9
    cost_false_positive: float = 1.0
    cost_false_negative: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in get_args(CriterionName):
            raise ConfigError(f"criterion: name is {self.name!r}; expected one of {', '.join(get_args(CriterionName))}")
        if not 0 < self.min_recall <= 1:
            raise ConfigError(f"criterion: min_recall is {self.min_recall}; expected more than 0 and at most 1")
        costs = (self.cost_false_positive, self.cost_false_negative)
        if min(costs) < 0 or max(costs) <= 0:
            raise ConfigError(f"criterion: costs are {costs}; expected 0 or more, and one of them above 0")


@dataclass(frozen=True, kw_only=True)
class BootstrapConfig:
    """Bootstrap confidence intervals of metrics."""

    resamples: int = 1000
    """Resamples per interval."""
    seed: int = 0
    """Random seed of the resamples."""

    def __post_init__(self) -> None:
        check(self.resamples >= 100, "bootstrap.resamples", self.resamples, "100 or more")


@dataclass(frozen=True, kw_only=True)
class ThresholdConfig:
    """How the thresholds of binary scores are chosen, on the validation split only."""

    criterion: CriterionName | Literal["keep"] = "f1"
    """What a threshold maximises. `keep`: use the model's own thresholds, which are 0.5 in a new model."""
    min_recall: float = 0.9
    """precision_at_recall: the recall that must be reached."""
    cost_false_positive: float = 1.0
    """cost: cost of a false positive."""
    cost_false_negative: float = 1.0
    """cost: cost of a false negative."""

    def __post_init__(self) -> None:
        check(0 < self.min_recall <= 1, "thresholds.min-recall", self.min_recall, "more than 0, at most 1")
        costs = (self.cost_false_positive, self.cost_false_negative)
        check(min(costs) >= 0 and max(costs) > 0, "thresholds.cost-false-positive", costs, "costs of 0 or more")

    def to_criterion(self) -> Criterion | None:
        """Returns the criterion; None if the model's thresholds are kept."""
        if self.criterion == "keep":
            return None
        return Criterion(
            name=self.criterion,
            min_recall=self.min_recall,
            cost_false_positive=self.cost_false_positive,
            cost_false_negative=self.cost_false_negative,
        )


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Evaluates a trained model on the test split: metrics with intervals, groups, calibration, thresholds, reports."""

    model: str
    """A trained model: a local folder, a folder in object storage, or a hub id."""
    data: tuple[str, ...]
    """Packed runs (pipelines/pack.py)."""
    output: str
    """Folder of the results: a local path or s3://bucket/prefix. Existing files are not overwritten."""
    compare: str | None = None
    """A second model to evaluate on the same rows."""
    group_by: tuple[str, ...] = ()
    """Attributes of the data by which metrics are split, separated by commas or spaces, such as race,gender."""
    min_group: int = 30
    """Groups with fewer rows, or with rows of one person only, are marked and left out of gaps."""
    calibration: Literal["temperature", "isotonic", "none", "keep"] = "temperature"
    """How scores are calibrated, on the validation split only, and only if cross-fitting on it shows an improvement.
    `keep`: use the model's own calibration."""
    split: Literal["test", "val", "train"] = "test"
    """The split to evaluate. On a split other than test nothing is fitted: the model's own thresholds and calibration
    are used."""
    label_list: str | None = None
    """A label list (one path and label per line, in any of its forms) whose layout test_labels.txt is written in."""
    pairs: str | None = None
    """A CSV file with the columns first and second (image_id of two images), same (1: the same person, 0: different
    ones) and perhaps fold. Their embeddings, the backbone's pooled features, are compared (verification)."""
    samples: bool = False
    """Draw a grid of test images with true and predicted labels. This copies images into the output."""
    revision: str | None = None
    """Commit of a hub model."""
    precision: PrecisionChoice = "auto"
    """Data type of the network's computation. auto: bfloat16 on GPUs from Ampere on, else float32."""
    flip: bool = False
    """Judge the mean of the outputs for each image and for its mirror image (test-time augmentation), as
    `pipelines/predict.py --flip` predicts."""
    thresholds: ThresholdConfig = field(default_factory=ThresholdConfig)
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    ray: RayConfig = field(default_factory=RayConfig)

    def __post_init__(self) -> None:
        for name in ("model", "output"):
            check(bool(getattr(self, name)), name, getattr(self, name), "an address")
        check(bool(self.data) and all(self.data), "data", self.data, "packed runs")
        check_each_once("data", self.data)
        check_each_once("group-by", self.groups)
        check(self.pairs != "", "pairs", self.pairs, "an address")
        check(self.min_group >= 1, "min-group", self.min_group, "1 or more")

    @property
    def groups(self) -> tuple[str, ...]:
        """`group_by`, split at commas."""
        return tuple(name for each in self.group_by for name in each.split(",") if name)
