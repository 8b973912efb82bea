"""Predictions for one face, in the names of attributes and classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from faceattr.attributes import Attribute, AttributeSet
from faceattr.evaluation.decisions import decide_labels

_YES_NO = ("no", "yes")


@dataclass(frozen=True, kw_only=True)
class AttributePrediction:
    """Prediction of one attribute of one face.

    Attributes:
        name: name of the attribute.
        label: class name; `yes` or `no` for binary attributes; years for an age.
        confidence: calibrated score of that class, in [0, 1]; None for ages and derived attributes.
        score: P(yes) of a binary attribute, which the threshold is applied to; else None.
        scores: class name -> score, in class order, for multiclass attributes; otherwise empty.
    """

    name: str
    label: str | float
    confidence: float | None = None
    score: float | None = None
    scores: Mapping[str, float]

    def describe(self, *, confidence: bool) -> str:
        """Returns a readable text: `hat yes 97.3%`, `age 31`."""
        label = f"{self.label:.0f}" if isinstance(self.label, float) else self.label
        share = f" {self.confidence:.1%}" if confidence and self.confidence is not None else ""
        return f"{self.name.replace('_', ' ')} {label}{share}"


@dataclass(frozen=True)
class Prediction:
    """Predictions for one face by attribute name, in the model's order, derived attributes last."""

    attributes: Mapping[str, AttributePrediction]

    def __getitem__(self, name: str) -> AttributePrediction:
        return self.attributes[name]

    def to_dict(self, *, confidence: bool) -> dict[str, Any]:
        """Returns JSON values: `<name>` is the label; with confidence also `<name>_confidence` and `<name>_scores`."""
        values: dict[str, Any] = {}
        for name, each in self.attributes.items():
            values[name] = each.label
            if confidence and each.confidence is not None:
                values[f"{name}_confidence"] = each.confidence
            if confidence and each.scores:
                values[f"{name}_scores"] = dict(each.scores)
        return values

    def describe(self, *, confidence: bool) -> str:
        """Returns a readable text."""
        return ", ".join(each.describe(confidence=confidence) for each in self.attributes.values())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Prediction":
        """Reads the result of `to_dict`; the key `path` is ignored."""
        extra = ("_confidence", "_scores")
        return cls(
            {
                name: AttributePrediction(
                    name=name,
                    label=label,
                    confidence=values.get(f"{name}_confidence"),
                    scores=values.get(f"{name}_scores", {}),
                )
                for name, label in values.items()
                if name != "path" and not name.endswith(extra)
            }
        )


def read_predictions(
    attributes: AttributeSet, scores: Mapping[str, np.ndarray], thresholds: Mapping[str, float]
) -> list[Prediction]:
    """Converts the scores of n faces, from `faceattr.evaluation.scores`, into predictions."""
    labels = decide_labels(attributes, scores, thresholds)
    columns: dict[str, list[AttributePrediction]] = {
        each.name: _read(each, scores[each.name], labels[each.name]) for each in attributes.attributes
    }
    for rule in attributes.derived:
        columns[rule.name] = [
            AttributePrediction(name=rule.name, label=_YES_NO[label], scores={}) for label in labels[rule.name].tolist()
        ]
    return [Prediction(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def _read(attribute: Attribute, scores: np.ndarray, labels: np.ndarray) -> list[AttributePrediction]:
    name = attribute.name
    if attribute.is_years:
        return [AttributePrediction(name=name, label=years, scores={}) for years in labels.astype(float).tolist()]
    if attribute.is_yes_no:
        return [
            AttributePrediction(
                name=name, label=_YES_NO[label], confidence=score if label else 1 - score, score=score, scores={}
            )
            for label, score in zip(labels.tolist(), scores.astype(float).tolist(), strict=True)
        ]
    return [
        AttributePrediction(
            name=name,
            label=attribute.classes[label],
            confidence=row[label],
            scores=dict(zip(attribute.classes, row, strict=True)) if attribute.has_class_scores else {},
        )
        for label, row in zip(labels.tolist(), scores.astype(float).tolist(), strict=True)
    ]
