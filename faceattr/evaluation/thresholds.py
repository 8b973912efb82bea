"""Thresholds of the scores of a binary attribute: the prediction is yes if score >= threshold.

Every threshold that changes a prediction is tried, so a chosen threshold is optimal on its rows, and its value there is
optimistic: `cross_fit` evaluates each half of the rows with the threshold chosen on the other half.
"""

from dataclasses import dataclass, field

import numpy as np
from sklearn.metrics import confusion_matrix_at_thresholds
from sklearn.model_selection import StratifiedKFold

from faceattr.config.evaluate import Criterion
from faceattr.errors import RunError


@dataclass(frozen=True, kw_only=True)
class CrossFit:
    """A threshold and its criterion value on rows that did not choose it.

    Attributes:
        value: criterion over all rows, each judged with the threshold of the other half.
        threshold: threshold chosen on all rows, in [0, 1] for scores in [0, 1].
        said: bool [n], what the thresholds of the other halves say about each row, in the order given.
    """

    value: float
    threshold: float
    said: np.ndarray = field(compare=False, repr=False)


def choose_threshold(labels: np.ndarray, scores: np.ndarray, criterion: Criterion) -> float:
    """Chooses the threshold with the best value of the criterion; among equals the one nearest to 0.5.

    It is between two neighbouring scores, and a float32 number if there is one between them, so that float32 scores
    give the same predictions in any precision.

    Args:
        labels: [n], 0 or 1.
        scores: float [n] in [0, 1].
        criterion: criterion to maximise.

    Raises:
        RunError: all labels are equal, or a score is not in [0, 1].
    """
    scores = _check(labels, scores)
    no_right, no_wrong, yes_wrong, yes_right, cuts = confusion_matrix_at_thresholds(labels, scores)
    # At sklearn's first threshold the highest score counts as yes; a threshold above it predicts no for all rows.
    if cuts[0] < 1:
        above = np.array([[no_right[0] + no_wrong[0], 0, yes_wrong[0] + yes_right[0], 0]], no_right.dtype)
        counts = np.vstack([above, np.stack([no_right, no_wrong, yes_wrong, yes_right], 1)])
        thresholds = _between(np.append(cuts, 0.0), np.insert(cuts, 0, 1.0))
    else:
        counts = np.stack([no_right, no_wrong, yes_wrong, yes_right], 1)
        thresholds = _between(np.append(cuts[1:], 0.0), cuts)
    values = criterion_values(counts, criterion)
    if criterion.name == "precision_at_recall":
        reached = counts[:, 3] / (counts[:, 2] + counts[:, 3]) >= criterion.min_recall
        values = np.where(reached, values, -np.inf)
    best = np.flatnonzero(values == values.max())
    return float(thresholds[best[np.abs(thresholds[best] - 0.5).argmin()]])


def criterion_value(labels: np.ndarray, scores: np.ndarray, threshold: float, criterion: Criterion) -> float:
    """Returns the criterion's value if scores >= threshold count as yes; for the arguments see `choose_threshold`.

    Raises:
        RunError: all labels are equal, or a score is not in [0, 1].
    """
    scores = _check(labels, scores)
    return float(criterion_values(_count(labels, scores >= threshold)[None], criterion)[0])


def cross_fit(labels: np.ndarray, scores: np.ndarray, criterion: Criterion, seed: int) -> CrossFit:
    """Chooses a threshold on all rows and evaluates it on two halves that judge each other. Independent of row order.

    Args:
        labels: [n], 0 or 1, each at least twice.
        scores: float [n] in [0, 1].
        criterion: criterion to maximise.
        seed: seed of the split into halves, which have equal shares of positive labels.

    Raises:
        RunError: a label occurs fewer than twice, or a score is not in [0, 1].
    """
    scores = _check(labels, scores, least=2)
    order = np.lexsort((labels, scores))
    labels, scores = labels[order], scores[order]
    said = np.zeros(len(labels), bool)
    for others, rows in StratifiedKFold(2, shuffle=True, random_state=seed).split(scores, labels):
        said[rows] = scores[rows] >= choose_threshold(labels[others], scores[others], criterion)
    value = float(criterion_values(_count(labels, said)[None], criterion)[0])
    threshold = choose_threshold(labels, scores, criterion)
    return CrossFit(value=value, threshold=threshold, said=said[np.argsort(order)])


def _check(labels: np.ndarray, scores: np.ndarray, *, least: int = 1) -> np.ndarray:
    """Checks labels and scores, and returns the scores as float64, which represents every float32."""
    if labels.shape != scores.shape or labels.ndim != 1 or not np.isin(labels, (0, 1)).all():
        raise ValueError(f"expected labels 0 or 1 and equally many scores, found {labels.shape} and {scores.shape}")
    positives = int(labels.sum())
    if min(positives, len(labels) - positives) < least:
        raise RunError(
            f"a threshold needs labels of both kinds, at least {least} of each; found {positives} yes and "
            f"{len(labels) - positives} no"
        )
    scores = scores.astype(np.float64)
    if not ((scores >= 0) & (scores <= 1)).all():
        raise RunError("a threshold needs scores from 0 to 1; found others, or NaN")
    return scores


def _count(labels: np.ndarray, said: np.ndarray) -> np.ndarray:
    """Returns counts [4]: true negatives, false positives, false negatives, true positives."""
    yes = labels == 1
    return np.array([(~yes & ~said).sum(), (~yes & said).sum(), (yes & ~said).sum(), (yes & said).sum()])


def criterion_values(counts: np.ndarray, criterion: Criterion) -> np.ndarray:
    """Returns the criterion of each row of counts, float64 [m].

    Args:
        counts: [m, 4], true negatives, false positives, false negatives, true positives; fractions if expected.
        criterion: the criterion; NaN where it is undefined.
    """
    true_no, false_yes, false_no, true_yes = counts.T.astype(np.float64)
    recall = true_yes / (true_yes + false_no)
    match criterion.name:
        case "f1":
            return 2 * true_yes / (2 * true_yes + false_yes + false_no)
        case "balanced_accuracy":
            return (recall + true_no / (true_no + false_yes)) / 2
        case "youden":
            return recall + true_no / (true_no + false_yes) - 1
        case "precision_at_recall":
            precision = true_yes / np.maximum(true_yes + false_yes, 1)
            return precision * np.minimum(recall / criterion.min_recall, 1)
        case "cost":
            costs = criterion.cost_false_positive * false_yes + criterion.cost_false_negative * false_no
            return -costs / counts.sum(1)


def _between(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Returns float64 [m] in (low, high], near the middle, representable in float32 if such a number exists."""
    middle = (low + high) / 2
    for preferred in (_round(high), _round(middle)):
        middle = np.where((preferred > low) & (preferred <= high), preferred, middle)
    return np.where(middle > low, middle, high)


def _round(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32).astype(np.float64)
