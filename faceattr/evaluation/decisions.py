"""Scores to labels: cuts on binary scores, the likeliest class of several, rules over the binary labels. NumPy only."""

from collections.abc import Mapping
from itertools import product
from typing import assert_never

import numpy as np

from faceattr.attributes import DEFAULT_THRESHOLD, Attribute, AttributeSet, DerivedAttribute


def decide_labels(
    attributes: AttributeSet, scores: Mapping[str, np.ndarray], thresholds: Mapping[str, float]
) -> dict[str, np.ndarray]:
    """Labels of every attribute and derived attribute.

    Args:
        attributes: what was scored.
        scores: attribute -> float [n], or [n, classes]; age [n] years; see `faceattr.evaluation.scores`.
        thresholds: binary attribute -> cut; 0.5 where there is none.

    Returns:
        Name -> int64 [n], 1 where the score is at least the cut, else 0; the class index; for an age float32 years.
    """
    labels = {each.name: decide(each, scores[each.name], thresholds) for each in attributes.attributes}
    for rule in attributes.derived:
        labels[rule.name] = truth_table(rule)[place_in_table([labels[name] for name in rule.inputs])]
    return labels


def decide(attribute: Attribute, scores: np.ndarray, thresholds: Mapping[str, float]) -> np.ndarray:
    """Labels of one attribute; see `decide_labels`."""
    match attribute.kind:
        case "binary":
            # In float64, so that a float32 score and its cut are compared as they stand.
            cut = thresholds.get(attribute.name, DEFAULT_THRESHOLD)
            return (scores.astype(np.float64) >= cut).astype(np.int64)
        case "age":
            return scores.astype(np.float32)
        case "multiclass" | "identity":
            return scores.argmax(1).astype(np.int64)
    assert_never(attribute.kind)


def decide_kept(
    attribute: Attribute, outputs: np.ndarray, scores: np.ndarray, thresholds: Mapping[str, float]
) -> np.ndarray:
    """Labels of one attribute in a scored table; see `decide_labels`.

    Args:
        attribute: whose labels.
        outputs: what the table keeps of the model's outputs, see `JudgedRows.outputs`: persons, the likeliest first.
        scores: [n] or [n, C], see `score_kept`.
        thresholds: binary attribute -> cut; 0.5 where there is none.
    """
    return outputs[:, 0] if attribute.is_person else decide(attribute, scores, thresholds)


def truth_table(rule: DerivedAttribute) -> np.ndarray:
    """int64 [2 ** inputs]: the value of a rule for all values of its inputs, the first input counting 1, the next 2."""
    rows = [values[::-1] for values in product((0, 1), repeat=len(rule.inputs))]
    return np.array([rule.evaluate(dict(zip(rule.inputs, row, strict=True))) for row in rows], np.int64)


def place_in_table(labels: list[np.ndarray]) -> np.ndarray:
    """Index into `truth_table`, int64 [n], from the inputs' labels."""
    places: np.ndarray = np.stack(labels, 1).astype(np.int64) @ (1 << np.arange(len(labels)))
    return places
