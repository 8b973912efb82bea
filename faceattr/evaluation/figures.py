"""Figures of judged rows, by scikit-learn.

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
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
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

from faceattr.evaluation.calibration import compute_ece
from faceattr.evaluation.judged import Judged
from faceattr.evaluation.losses import compute_log_losses
from faceattr.evaluation.reliability import compute_calibration_error, read_confidence

WITHIN_YEARS = 5
COMBINED_WEIGHTS: Mapping[str, float] = {"gender": 0.3, "identity": 0.7}
SMALLER_IS_BETTER = frozenset(["mae", "rmse", "log_loss", "calibration_error", "ece"])


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        value: NaN where it is not defined.
        count: rows it is made of; of a class, its support.
    """

    value: float
    count: int


def compute_figures(judged: Judged) -> dict[str, Figure]:
    """All figures of one attribute; see the module."""
    if not len(judged) and judged.coarse is None:
        return {}
    with warnings.catch_warnings():
        # sklearn warns of what is NaN here: a class without rows, or without predictions.
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


def compute_combined(figures: Mapping[str, Mapping[str, Figure]], kinds: Mapping[str, str]) -> Figure | None:
    """FaceCom's score, where the model has `gender` and an identity; else None."""
    persons = [name for name, kind in kinds.items() if kind == "identity" and figures.get(name)]
    if not persons or not figures.get("gender"):
        return None
    gender, identity = figures["gender"]["accuracy"], figures[persons[0]]["top1"]
    value = COMBINED_WEIGHTS["gender"] * gender.value + COMBINED_WEIGHTS["identity"] * identity.value
    return Figure(value, min(gender.count, identity.count))


def _binary(judged: Judged) -> dict[str, Figure]:
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


def _multiclass(judged: Judged) -> dict[str, Figure]:
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


def _of_scores(judged: Judged) -> dict[str, float]:
    right, scores = read_confidence(judged)
    return {
        "log_loss": float(compute_log_losses(judged.labels, judged.scores).mean()),
        "calibration_error": compute_calibration_error(right, scores, judged.clusters)[0],
        "ece": compute_ece(right, scores),
    }


def _age(judged: Judged) -> dict[str, Figure]:
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


def _identity(judged: Judged) -> dict[str, Figure]:
    labels = judged.labels
    values = {
        "top1": accuracy_score(labels, judged.predictions),
        "top5": float((judged.outputs == labels[:, None]).any(1).mean()),
        "macro_f1": f1_score(labels, judged.predictions, average="macro", zero_division=np.nan),
    }
    return {name: Figure(float(value), len(labels)) for name, value in values.items()}
