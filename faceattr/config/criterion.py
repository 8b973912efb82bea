"""What a threshold is chosen for: one definition for evaluation, training and search."""

from dataclasses import dataclass
from typing import Literal, get_args

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
