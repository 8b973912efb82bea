"""Turns scores into labels: thresholds, the top class of several, rules over binary labels. NumPy only."""

from collections.abc import Mapping
from itertools import product
from typing import assert_never

import numpy as np

from faceattr.attributes import DEFAULT_THRESHOLD, Attribute, AttributeSet, DerivedAttribute


def decide_labels(
    attributes: AttributeSet, scores: Mapping[str, np.ndarray], thresholds: Mapping[str, float]
) -> dict[str, np.ndarray]:
    """Returns the labels of every attribute and derived attribute.

    Args:
        attributes: attributes that were scored.
        scores: attribute -> float [n], or [n, classes]; age [n] in years; see `faceattr.evaluation.scores`.
        thresholds: binary attribute -> threshold; by default 0.5.

    Returns:
        Name -> int64 [n]: 1 if the score is at least the threshold, else 0; a class index; or float32 years of an age.
    """
    labels = {each.name: decide(each, scores[each.name], thresholds) for each in attributes.attributes}
    for rule in attributes.derived:
        labels[rule.name] = truth_table(rule)[place_in_table([labels[name] for name in rule.inputs])]
    return labels


def decide(attribute: Attribute, scores: np.ndarray, thresholds: Mapping[str, float]) -> np.ndarray:
    """Returns the labels of one attribute; see `decide_labels`."""
    match attribute.kind:
        case "binary":
            # In float64, so that a float32 score and its threshold are compared exactly.
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
    """Returns the labels of one attribute in a scored table; see `decide_labels`.

    Args:
        attribute: attribute to decide.
        outputs: model outputs that the table stores, see `JudgedRows.outputs`; for an identity the top person is first.
        scores: [n] or [n, C], see `score_kept`.
        thresholds: binary attribute -> threshold; by default 0.5.
    """
    return outputs[:, 0] if attribute.is_person else decide(attribute, scores, thresholds)


def truth_table(rule: DerivedAttribute) -> np.ndarray:
    """Returns a rule's value for all values of its inputs, int64 [2 ** inputs]; input i has the place value 2 ** i."""
    rows = [values[::-1] for values in product((0, 1), repeat=len(rule.inputs))]
    return np.array([rule.evaluate(dict(zip(rule.inputs, row, strict=True))) for row in rows], np.int64)


def place_in_table(labels: list[np.ndarray]) -> np.ndarray:
    """Returns the index into `truth_table`, int64 [n], from the labels of the inputs."""
    places: np.ndarray = np.stack(labels, 1).astype(np.int64) @ (1 << np.arange(len(labels)))
    return places
