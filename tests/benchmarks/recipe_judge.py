"""How the trainings of `bench_recipes.py` are judged: by scikit-learn on all validation rows."""

from collections.abc import Mapping

from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor

from tests.benchmarks.recipe_sets import ImageSet

Figures = dict[str, dict[str, float]]
"""Attribute -> macro_f1, accuracy."""


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
    return figures


def mean_f1(figures: Figures) -> float:
    return sum(each["macro_f1"] for each in figures.values()) / max(1, len(figures))
