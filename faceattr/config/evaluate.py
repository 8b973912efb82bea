"""The config of `pipelines/eval.py`, and what a threshold is chosen for, which training and search share."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from faceattr.config.checks import check
from faceattr.config.flags import check_each_once
from faceattr.config.shared import DecodeConfig, Precision, RayConfig, StorageConfig, WorkersConfig
from faceattr.errors import ConfigError

CriterionName = Literal["f1", "balanced_accuracy", "youden", "precision_at_recall", "cost"]


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """What a threshold is chosen for; larger is better.

    Attributes:
        name: `f1`; `balanced_accuracy`; `youden`, recall of yes + recall of no - 1; `precision_at_recall`, precision
            where recall is at least `min_recall`, and less in proportion where it is not; `cost`, minus the mean cost
            of a row.
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
    """The intervals of figures."""

    resamples: int = 1000
    """Draws for each interval."""
    seed: int = 0
    """Decides the draws."""

    def __post_init__(self) -> None:
        check(self.resamples >= 100, "bootstrap.resamples", self.resamples, "100 or more")


@dataclass(frozen=True, kw_only=True)
class ThresholdConfig:
    """How the cuts on binary scores are chosen, on the validation split alone."""

    criterion: CriterionName | Literal["keep"] = "f1"
    """What a threshold is best for; `keep` takes the model's own, which are 0.5 in a new one."""
    min_recall: float = 0.9
    """For precision_at_recall: the recall that must be reached."""
    cost_false_positive: float = 1.0
    """For cost."""
    cost_false_negative: float = 1.0
    """For cost."""

    def __post_init__(self) -> None:
        check(0 < self.min_recall <= 1, "thresholds.min-recall", self.min_recall, "more than 0, at most 1")
        costs = (self.cost_false_positive, self.cost_false_negative)
        check(min(costs) >= 0 and max(costs) > 0, "thresholds.cost-false-positive", costs, "costs of 0 or more")

    def to_criterion(self) -> Criterion | None:
        """The criterion; None where thresholds stay what they are."""
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
    """Groups with fewer rows, or all of one person, are marked and left out of gaps."""
    calibration: Literal["temperature", "isotonic", "none", "keep"] = "temperature"
    """How scores are calibrated, on the validation split alone, where cross-fitting there shows that it helps; `keep`
    takes the model's own."""
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
            check(bool(getattr(self, name)), name, getattr(self, name), "an address")
        check(bool(self.data) and all(self.data), "data", self.data, "packed runs")
        check_each_once("data", self.data)
        check_each_once("group-by", self.groups)
        check(self.min_group >= 1, "min-group", self.min_group, "1 or more")

    @property
    def groups(self) -> tuple[str, ...]:
        """`group_by` with its commas taken apart."""
        return tuple(name for each in self.group_by for name in each.split(",") if name)
