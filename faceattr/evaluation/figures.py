"""Figures (metrics) of judged rows, computed by scikit-learn.

    binary      accuracy, balanced_accuracy, precision, recall, f1, ap, auc, log_loss, calibration_error, ece
    multiclass  accuracy, balanced_accuracy, macro_precision, macro_f1, weighted_f1, log_loss, calibration_error, ece,
                coarse_accuracy;
                precision, recall, f1, ap and auc of each class, as `f1/<class>`
    age         mae, rmse, bias, within_5 (the cumulative score CS@5) of exact ages, in years; range_accuracy
    identity    top1, top5, macro_f1

and `combined`, FaceCom's 0.3 gender accuracy + 0.7 identity top-1. A figure that is not defined, such as the recall of
a class that no row has, is NaN; means over classes leave such classes out.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from fairlearn.metrics import false_positive_rate, selection_rate
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    mean_absolute_error,
    precision_recall_fscore_support,
    precision_score,
    recall_score,
    roc_auc_score,
    root_mean_squared_error,
)

from faceattr.attributes import Attribute
from faceattr.evaluation.calibration.log_loss import compute_log_losses
from faceattr.evaluation.calibration.maps import compute_ece
from faceattr.evaluation.calibration.reliability import compute_calibration_error, read_confidence
from faceattr.evaluation.judged import JudgedRows
from faceattr.evaluation.uncertainty.outcome_counts import (
    MAX_PLACES,
    AgeCells,
    BinaryCells,
    ClassCells,
    IdentityCells,
    OutcomeCounts,
)
from faceattr.training.metrics import WITHIN_YEARS

COMBINED_WEIGHTS: Mapping[str, float] = {"gender": 0.3, "identity": 0.7}
SMALLER_IS_BETTER = frozenset(["mae", "rmse", "log_loss", "calibration_error", "ece"])
GroupMetric = Callable[[np.ndarray, np.ndarray], float]
_BINARY: dict[str, GroupMetric] = {
    "accuracy": accuracy_score,
    "precision": lambda labels, said: precision_score(labels, said, zero_division=np.nan),
    "recall": lambda labels, said: recall_score(labels, said, zero_division=np.nan),
    "false_positive_rate": lambda labels, said: false_positive_rate(labels, said, pos_label=1),
    "selection_rate": lambda labels, said: selection_rate(labels, said, pos_label=1),
    "f1": lambda labels, said: f1_score(labels, said, zero_division=np.nan),
}
_CLASSES: dict[str, GroupMetric] = {
    "accuracy": accuracy_score,
    "balanced_accuracy": balanced_accuracy_score,
    "macro_f1": lambda labels, said: f1_score(labels, said, average="macro", zero_division=np.nan),
}
_AGES: dict[str, GroupMetric] = {
    "mae": mean_absolute_error,
    "bias": lambda years, said: float((said - years).mean()),
}
_PERSONS: dict[str, GroupMetric] = {"top1": accuracy_score}


@dataclass(frozen=True)
class Figure:
    """Value of one metric.

    Attributes:
        value: the value; NaN if undefined.
        count: number of rows that it is computed from; for a class its support.
    """

    value: float
    count: int


def compute_figures(judged: JudgedRows) -> dict[str, Figure]:
    """Computes all figures of one attribute; see the module docstring."""
    if not len(judged) and judged.coarse is None:
        return {}
    with warnings.catch_warnings():
        # sklearn warns of figures that are NaN here: a class without rows, or without predictions.
        warnings.simplefilter("ignore")
        match judged.attribute.kind:
            case "binary":
                return _binary(judged)
            case "multiclass":
                return _multiclass(judged)
            case "age":
                return _age(judged)
            case "identity":
                return _identity(judged)
    assert_never(judged.attribute.kind)


def card_figures(attribute: Attribute) -> tuple[str, ...]:
    """Returns the defined figures that a model card shows."""
    match attribute.kind:
        case "binary":
            return ("f1", "precision", "recall", "ap", "auc", "calibration_error")
        case "multiclass":
            return ("accuracy", "macro_f1", "balanced_accuracy", "calibration_error", "coarse_accuracy")
        case "age":
            return ("mae", "within_5", "range_accuracy")
        case "identity":
            return ("top1", "top5", "macro_f1")
    assert_never(attribute.kind)


def group_metrics(attribute: Attribute) -> Mapping[str, GroupMetric]:
    """Returns the figures that are compared between groups: name -> function of labels [n] and predictions [n]."""
    match attribute.kind:
        case "binary":
            return _BINARY
        case "multiclass":
            return _CLASSES
        case "age":
            return _AGES
        case "identity":
            return _PERSONS
    assert_never(attribute.kind)


def build_cells(judged: JudgedRows, *, max_places: int = MAX_PLACES) -> OutcomeCounts:
    """Builds the cells of judged rows."""
    match judged.attribute.kind:
        case "binary":
            return BinaryCells(judged.labels, judged.scores, judged.predictions, max_places)
        case "multiclass":
            return ClassCells(judged, max_places)
        case "age":
            return AgeCells(judged, max_places)
        case "identity":
            return IdentityCells(judged)
    assert_never(judged.attribute.kind)


def find_shares(judged: JudgedRows) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """Returns figures that are shares of rows: name -> whether a row is right, bool [m], and its cluster, int64 [m]."""
    masks: dict[str, np.ndarray] = {}
    everything = np.ones(len(judged), bool)
    right = judged.labels == judged.predictions if judged.attribute.has_classes else _right_years(judged)
    match judged.attribute.kind:
        case "age":
            low, high = judged.labels.T
            exact = high - low <= 1
            masks = {f"within_{WITHIN_YEARS}": exact, "range_accuracy": ~exact}
        case "binary":
            masks = {"accuracy": everything, "precision": judged.predictions == 1, "recall": judged.labels == 1}
        case "multiclass":
            masks = {"accuracy": everything}
            for index, name in enumerate(judged.attribute.classes):
                masks |= {
                    f"precision/{name}": judged.predictions == index,
                    f"recall/{name}": judged.labels == index,
                }
        case "identity":
            masks = {"top1": everything}
        case _:
            assert_never(judged.attribute.kind)
    clusters = judged.clusters
    shares = {
        name: (right[mask], None if clusters is None else clusters[mask]) for name, mask in masks.items() if mask.any()
    }
    if judged.attribute.is_person:
        shares["top5"] = ((judged.outputs == judged.labels[:, None]).any(1), clusters)
    if judged.coarse is not None:
        possible, said = judged.coarse
        shares["coarse_accuracy"] = (possible[np.arange(len(said)), said], judged.coarse_clusters)
    return shares


def _right_years(judged: JudgedRows) -> np.ndarray:
    """Returns which predictions are right, bool [n]: within WITHIN_YEARS of an exact age, or inside a range."""
    low, high = judged.labels.T
    exact = high - low <= 1
    right = np.where(exact, np.abs(judged.predictions - low) <= WITHIN_YEARS, False)
    return np.asarray(right | ~exact & (judged.predictions >= low) & (judged.predictions < high))


def compute_combined(figures: Mapping[str, Mapping[str, Figure]], person: str | None) -> Figure | None:
    """Returns FaceCom's score, where the model has `gender` and an identity; else None.

    Args:
        figures: attribute -> figure -> value.
        person: the identity attribute that has figures, if any.
    """
    if person is None or not figures.get("gender"):
        return None
    gender, identity = figures["gender"]["accuracy"], figures[person]["top1"]
    value = COMBINED_WEIGHTS["gender"] * gender.value + COMBINED_WEIGHTS["identity"] * identity.value
    return Figure(value, min(gender.count, identity.count))


def _binary(judged: JudgedRows) -> dict[str, Figure]:
    labels, predictions, scores = judged.labels, judged.predictions, judged.scores
    both = len(np.unique(labels)) == 2
    values = {
        "accuracy": accuracy_score(labels, predictions),
        "balanced_accuracy": balanced_accuracy_score(labels, predictions),
        "precision": precision_score(labels, predictions, zero_division=np.nan),
        "recall": recall_score(labels, predictions, zero_division=np.nan),
        "f1": f1_score(labels, predictions, zero_division=np.nan),
        "ap": average_precision_score(labels, scores) if both else np.nan,
        "auc": roc_auc_score(labels, scores) if both else np.nan,
        **_of_scores(judged),
    }
    return {name: Figure(float(value), len(labels)) for name, value in values.items()}


def _multiclass(judged: JudgedRows) -> dict[str, Figure]:
    labels, predictions, scores = judged.labels, judged.predictions, judged.scores
    figures = {}
    if len(labels):
        names = judged.attribute.classes
        precision, recall, f1, support = precision_recall_fscore_support(
            labels, predictions, labels=range(len(names)), zero_division=np.nan
        )
        values = {
            "accuracy": accuracy_score(labels, predictions),
            "balanced_accuracy": balanced_accuracy_score(labels, predictions),
            "macro_precision": np.nanmean(precision),
            "macro_f1": np.nanmean(f1),
            "weighted_f1": float(np.nansum(f1 * support) / support.sum()),
            **_of_scores(judged),
        }
        figures = {name: Figure(float(value), len(labels)) for name, value in values.items()}
        for index, name in enumerate(names):
            mine = labels == index
            both = 0 < mine.sum() < len(mine)
            of_class = {
                "precision": precision[index],
                "recall": recall[index],
                "f1": f1[index],
                "ap": average_precision_score(mine, scores[:, index]) if both else np.nan,
                "auc": roc_auc_score(mine, scores[:, index]) if both else np.nan,
            }
            figures |= {f"{key}/{name}": Figure(float(value), int(mine.sum())) for key, value in of_class.items()}
    if judged.coarse is not None:
        possible, said = judged.coarse
        right = possible[np.arange(len(said)), said]
        figures["coarse_accuracy"] = Figure(float(right.mean()), len(right))
    return figures


def _of_scores(judged: JudgedRows) -> dict[str, float]:
    right, scores = read_confidence(judged)
    return {
        "log_loss": float(compute_log_losses(judged.labels, judged.scores).mean()),
        "calibration_error": compute_calibration_error(right, scores, judged.clusters)[0],
        "ece": compute_ece(right, scores),
    }


def _age(judged: JudgedRows) -> dict[str, Figure]:
    low, high = judged.labels.T
    exact = high - low <= 1
    figures = {}
    if exact.any():
        years, said = low[exact], judged.predictions[exact]
        values = {
            "mae": mean_absolute_error(years, said),
            "rmse": root_mean_squared_error(years, said),
            "bias": float((said - years).mean()),
            f"within_{WITHIN_YEARS}": float((np.abs(said - years) <= WITHIN_YEARS).mean()),
        }
        figures = {name: Figure(float(value), int(exact.sum())) for name, value in values.items()}
    if not exact.all():
        right = ((judged.predictions >= low) & (judged.predictions < high))[~exact]
        figures["range_accuracy"] = Figure(float(right.mean()), len(right))
    return figures


def _identity(judged: JudgedRows) -> dict[str, Figure]:
    labels = judged.labels
    values = {
        "top1": accuracy_score(labels, judged.predictions),
        "top5": float((judged.outputs == labels[:, None]).any(1).mean()),
        "macro_f1": f1_score(labels, judged.predictions, average="macro", zero_division=np.nan),
    }
    return {name: Figure(float(value), len(labels)) for name, value in values.items()}
