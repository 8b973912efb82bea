"""How the trainings of `bench_recipes.py` are judged: by scikit-learn on all validation rows."""

from collections.abc import Mapping

from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor

from faceattr.config.evaluate import Criterion
from faceattr.evaluation.thresholds import choose_threshold
from tests.benchmarks.recipe_sets import UNKNOWN, ImageSet

Figures = dict[str, dict[str, float]]
"""Attribute -> macro_f1, accuracy; for students of a teacher also fitted_f1, at the threshold that `evaluate` fits."""


def judge(outputs: Mapping[str, Tensor], data: ImageSet) -> Figures:
    """Compares outputs, [n, 1] logits of yes or [n, C] of classes, with what the validation rows are judged by."""
    figures = {}
    for name, values in outputs.items():
        predicted = (values[:, 0] > 0).long() if values.shape[1] == 1 else values.argmax(1)
        truth = (data.truth or data.labels["val"])[name].numpy()
        figures[name] = {
            "macro_f1": float(f1_score(truth, predicted.numpy(), average="macro", zero_division=0)),
            "accuracy": float(accuracy_score(truth, predicted.numpy())),
        }
        if data.truth and values.shape[1] == 1:
            fitted = _fit_to_labels(values[:, 0], data.labels["val"][name])
            figures[name]["fitted_f1"] = float(f1_score(truth, fitted.numpy(), average="macro", zero_division=0))
    return figures


def _fit_to_labels(logits: Tensor, labels: Tensor) -> Tensor:
    """Decides by the threshold with the best F1 on the labels of the validation rows: a student knows no truth."""
    scores, known = logits.sigmoid(), labels != UNKNOWN
    if len(labels[known].unique()) < 2:  # `evaluate` keeps the model's threshold
        return scores >= 0.5
    return scores >= choose_threshold(labels[known].numpy(), scores[known].numpy(), Criterion())


def mean_f1(figures: Figures) -> float:
    return sum(each["macro_f1"] for each in figures.values()) / max(1, len(figures))
