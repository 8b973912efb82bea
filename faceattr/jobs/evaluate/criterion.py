"""The criterion that thresholds are chosen for, from the settings of a command."""

from faceattr.config import ThresholdConfig
from faceattr.evaluation.thresholds import Criterion


def read_criterion(settings: ThresholdConfig) -> Criterion | None:
    """The criterion; None where thresholds stay what they are."""
    if settings.criterion == "keep":
        return None
    return Criterion(
        name=settings.criterion,
        min_recall=settings.min_recall,
        cost_false_positive=settings.cost_false_positive,
        cost_false_negative=settings.cost_false_negative,
    )
