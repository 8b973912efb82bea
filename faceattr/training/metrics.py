"""Validation figures from counts that are summed over batches and ranks, with one division at the end.

    binary      accuracy, balanced_accuracy, precision, recall, f1, ap, auc
    multiclass  accuracy, balanced_accuracy, macro_f1, coarse_accuracy, empty_classes; f1 and recall of each class
    age         mae, rmse, bias, within_5 (exact ages, in years); range_accuracy (ranges)
    identity    top1, top5, macro_f1, empty_classes

and `count`, the number of judged rows. Rows with an exact label are judged; rows with only scores are not. A figure
that is undefined, such as the recall of a class without rows, is NaN; means over classes exclude such classes, as in
sklearn, and `empty_classes` is their number. Counts are float64 on the CPU, exact up to 2**53.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import assert_never

import torch
from torch import Tensor

from faceattr.attributes import Attribute, AttributeSet
from faceattr.errors import RunError
from faceattr.training.age import predict_age
from faceattr.training.curves import NUM_SCORE_BINS, add_logits, compute_auc, compute_average_precision
from faceattr.training.loop.ranks import Reduce
from faceattr.training.targets import Targets

ERROR_NAMES = frozenset(["loss", "mae", "rmse"])
"""Figures that are errors, by the last part of their name."""
WITHIN_YEARS = 5
"""Largest error in years of an age that counts as correct in `within_5`, the cumulative score CS@5."""


class AttributeMetrics(ABC):
    """Counts for one attribute.

    Attributes:
        counts: name -> float64 tensor; counts are merged by adding them.
    """

    counts: dict[str, Tensor]

    @abstractmethod
    def add(self, outputs: Tensor, targets: Targets) -> None:
        """Counts a batch: the model's outputs, float32 [n, outputs], and the labels of the same rows, on the CPU."""

    @abstractmethod
    def figures(self) -> dict[str, float]:
        """Returns figure -> value for the rows counted so far."""


class BinaryMetrics(AttributeMetrics):
    """Confusion counts [label, prediction] at a threshold, and a histogram of the logits."""

    def __init__(self, threshold: float = 0.5) -> None:
        self._threshold = threshold
        self.counts = {"confusion": _zeros(2, 2), "histogram": _zeros(2, NUM_SCORE_BINS)}

    def add(self, outputs: Tensor, targets: Targets) -> None:
        """See the base class."""
        known = targets.known
        logits, labels = outputs[known, 0], targets.value[known].long()
        self.counts["confusion"] += _count_pairs(labels, (logits.sigmoid() >= self._threshold).long(), 2)
        add_logits(self.counts["histogram"], logits, labels)

    def figures(self) -> dict[str, float]:
        """See the base class."""
        confusion, histogram = self.counts["confusion"], self.counts["histogram"]
        recalls, precisions, f1 = _by_class(confusion)
        return {
            "accuracy": _ratio(confusion.trace(), confusion.sum()),
            "balanced_accuracy": _mean(recalls),
            "precision": float(precisions[1]),
            "recall": float(recalls[1]),
            "f1": float(f1[1]),
            "ap": compute_average_precision(histogram),
            "auc": compute_auc(histogram),
            "count": float(confusion.sum()),
        }


class ClassMetrics(AttributeMetrics):
    """Confusion counts [label, prediction], and how often the prediction is among the classes of a coarse label."""

    def __init__(self, attribute: Attribute) -> None:
        self._classes = attribute.classes
        num = len(attribute.classes)
        self.counts = {"confusion": _zeros(num, num), "coarse": _zeros(2)}

    def add(self, outputs: Tensor, targets: Targets) -> None:
        """See the base class."""
        known = targets.known
        predictions = outputs.argmax(1)
        self.counts["confusion"] += _count_pairs(targets.value[known], predictions[known], len(self._classes))
        if targets.coarse is not None:
            possible = targets.coarse
            right = possible.gather(1, predictions[:, None])
            self.counts["coarse"] += torch.stack([right.sum(), possible.any(1).sum()])

    def figures(self) -> dict[str, float]:
        """See the base class."""
        confusion, coarse = self.counts["confusion"], self.counts["coarse"]
        recalls, _, f1 = _by_class(confusion)
        figures = {
            "accuracy": _ratio(confusion.trace(), confusion.sum()),
            "balanced_accuracy": _mean(recalls),
            "macro_f1": _mean(f1),
            "coarse_accuracy": _ratio(coarse[0], coarse[1]),
            "empty_classes": float((confusion.sum(1) == 0).sum()),
            "count": float(confusion.sum()),
        }
        for index, name in enumerate(self._classes):
            figures[f"f1/{name}"] = float(f1[index])
            figures[f"recall/{name}"] = float(recalls[index])
        return figures


class AgeMetrics(AttributeMetrics):
    """Sums of errors in years, measured in completed years."""

    def __init__(self) -> None:
        self.counts = {"exact": _zeros(5), "ranges": _zeros(2)}

    def add(self, outputs: Tensor, targets: Targets) -> None:
        """See the base class."""
        known = targets.known
        years = predict_age(outputs)[known].double()
        low, high = targets.value[known].double().unbind(1)
        is_exact = high - low <= 1
        error = (years - low)[is_exact]
        within = (error.abs() <= WITHIN_YEARS).sum()
        self.counts["exact"] += torch.stack([error.abs().sum(), (error**2).sum(), error.sum(), within, is_exact.sum()])
        right = (years >= low) & (years < high) & ~is_exact
        self.counts["ranges"] += torch.stack([right.sum(), (~is_exact).sum()])

    def figures(self) -> dict[str, float]:
        """See the base class."""
        absolute, squared, signed, within, count = self.counts["exact"]
        right, ranges = self.counts["ranges"]
        return {
            "mae": _ratio(absolute, count),
            "rmse": math.sqrt(_ratio(squared, count)),
            "bias": _ratio(signed, count),
            f"within_{WITHIN_YEARS}": _ratio(within, count),
            "range_accuracy": _ratio(right, ranges),
            "count": float(count + ranges),
        }


class IdentityMetrics(AttributeMetrics):
    """Per person: rows, correct predictions, predictions; and how often the person is among the top five."""

    def __init__(self, attribute: Attribute) -> None:
        self._num = len(attribute.classes)
        self.counts = {"persons": _zeros(3, self._num), "top5": _zeros(1)}

    def add(self, outputs: Tensor, targets: Targets) -> None:
        """See the base class."""
        known = targets.known
        likeliest = outputs.topk(min(5, self._num)).indices[known]
        labels, predictions = targets.value[known], likeliest[:, 0]
        right = labels[labels == predictions]
        self.counts["persons"] += torch.stack([_count(each, self._num) for each in (labels, right, predictions)])
        self.counts["top5"] += (likeliest == labels[:, None]).sum()

    def figures(self) -> dict[str, float]:
        """See the base class."""
        labels, right, predictions = self.counts["persons"]
        total = labels.sum()
        return {
            "top1": _ratio(right.sum(), total),
            "top5": _ratio(self.counts["top5"][0], total),
            "macro_f1": _mean(2 * right / (labels + predictions)),
            "empty_classes": float((labels == 0).sum()),
            "count": float(total),
        }


class Metrics:
    """Counts for all attributes of a model.

    Attributes:
        by_attribute: attribute name -> counts.
    """

    def __init__(self, attributes: AttributeSet, thresholds: Mapping[str, float] | None = None) -> None:
        """Starts with zero counts; `thresholds` maps binary attributes to thresholds, by default 0.5."""
        cuts = thresholds or {}
        self.by_attribute = {each.name: _build(each, cuts.get(each.name, 0.5)) for each in attributes.attributes}

    def add(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Targets]) -> None:
        """Counts a batch that is on the CPU.

        Raises:
            RunError: an output is not finite.
        """
        for name, metrics in self.by_attribute.items():
            output = outputs[name].detach().float()
            if not output.isfinite().all():
                raise RunError(f"attribute {name!r}: the model's outputs are not finite in validation")
            metrics.add(output, targets[name])

    def merge(self, other: "Metrics") -> None:
        """Adds the counts of another part of the data."""
        for name, metrics in self.by_attribute.items():
            for key, count in metrics.counts.items():
                count.add_(other.by_attribute[name].counts[key])

    def reduce(self, reduce: Reduce) -> None:
        """Sums the counts over ranks in one call; afterwards all ranks have the same counts."""
        counts = [count for metrics in self.by_attribute.values() for count in metrics.counts.values()]
        total = reduce(torch.cat([count.flatten() for count in counts]))
        for count, part in zip(counts, total.split([count.numel() for count in counts]), strict=True):
            count.copy_(part.view_as(count))

    def finish(self) -> dict[str, float]:
        """Returns `<attribute>/<figure>` -> value."""
        return {
            f"{name}/{figure}": value
            for name, metrics in self.by_attribute.items()
            for figure, value in metrics.figures().items()
        }


def _build(attribute: Attribute, threshold: float) -> AttributeMetrics:
    match attribute.kind:
        case "binary":
            return BinaryMetrics(threshold)
        case "multiclass":
            return ClassMetrics(attribute)
        case "age":
            return AgeMetrics()
        case "identity":
            return IdentityMetrics(attribute)
    assert_never(attribute.kind)


def shown_figures(attribute: Attribute) -> tuple[str, ...]:
    """Returns the most informative validation figures."""
    match attribute.kind:
        case "binary":
            return ("accuracy", "balanced_accuracy", "f1", "ap", "auc")
        case "multiclass":
            return ("accuracy", "balanced_accuracy", "macro_f1")
        case "age":
            return ("mae", "rmse", f"within_{WITHIN_YEARS}", "range_accuracy")
        case "identity":
            return ("top1", "top5", "macro_f1")
    assert_never(attribute.kind)


def judging_figures(attribute: Attribute, *, balanced: bool) -> tuple[str, ...]:
    """Returns the figures that select a model without thresholds, in order; the first defined one is used.

    Args:
        attribute: attribute without a threshold.
        balanced: whether to use the mean recall of the classes; otherwise their mean F1.
    """
    match attribute.kind:
        case "identity":
            return ("top1",)
        case "age":
            return (f"within_{WITHIN_YEARS}", "range_accuracy")
        case "binary" | "multiclass":
            return ("balanced_accuracy",) if balanced else ("macro_f1",)
    assert_never(attribute.kind)


def _by_class(confusion: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns recall, precision and F1 of every class; 0 / 0 is NaN."""
    right, labels, predictions = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    return right / labels, right / predictions, 2 * right / (labels + predictions)


def _mean(values: Tensor) -> float:
    return float(values.nanmean())


def _ratio(part: Tensor, whole: Tensor) -> float:
    return float(part / whole)


def _zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64)


def _count(classes: Tensor, num_classes: int) -> Tensor:
    return torch.bincount(classes, minlength=num_classes).double()


def _count_pairs(labels: Tensor, predictions: Tensor, num_classes: int) -> Tensor:
    return _count(labels * num_classes + predictions, num_classes**2).view(num_classes, num_classes)
