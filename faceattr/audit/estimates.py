"""Precision, recall, F1 and prevalence of a table's labels, with intervals, from a judged sample of them.

How many rows have a label, and a yes, needs no judgement: it is counted.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from faceattr.audit.posterior import JudgedItems, complete
from faceattr.data.runs.run_attributes import Decision

NUM_TABLES = 2_000
"""Completed tables; the ends of a 95 % interval then differ from run to run by about a fiftieth of its width."""
_PERCENTILES = (2.5, 97.5)
MIN_YES = 3
"""With fewer judged items that are labelled yes, precision, recall and F1 are unknown: the sample does not tell of rows
with scores that none of its items has."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure of the whole table.

    Attributes:
        value: the estimate; NaN if the sample does not tell, see `MIN_YES`.
        low: lower end of its 95 % interval.
        high: upper end.
    """

    value: float
    low: float
    high: float


def estimate_binary(items: JudgedItems, decision: Decision, *, seed: int) -> dict[str, Estimate]:
    """Estimates the figures of labels that a decision makes from scores.

    Args:
        items: judged items.
        decision: threshold and abstain band; rows in the band have no label and count for prevalence and coverage only.
        seed: of the intervals.

    Returns:
        precision, recall, f1 and prevalence (share of positives).
    """
    completions = complete(items, num_tables=NUM_TABLES, seed=seed)
    values = _figures(items.weights[None], items.positive, items.score[None], decision)
    tables = _figures(completions.weights, completions.positive, completions.score, decision)
    found = {name: _summarise(values[name], tables[name]) for name in values}
    if _label_yes(items.score, decision).sum() < MIN_YES:
        unknown = Estimate(value=math.nan, low=math.nan, high=math.nan)
        found |= dict.fromkeys(("precision", "recall", "f1"), unknown)
    return found


def count_labels(low: np.ndarray, high: np.ndarray, num_rows: np.ndarray, decision: Decision) -> dict[str, Estimate]:
    """Counts the rows of a histogram of scores.

    Args:
        low: float64 [bins], lower ends, which are scores of the bin.
        high: float64 [bins], upper ends, which are not.
        num_rows: int64 [bins], rows of the table.
        decision: threshold and abstain band. At an end of a bin, as thresholds are that an audit knows, it divides no
            bin, and the count is exact but for scores that equal the band's lower end, which are taken as inside.

    Returns:
        labelled_yes (share of the rows that are labelled yes) and coverage (share with a label), with the bounds that a
        divided bin leaves.
    """
    band_low, band_high = decision.abstain or (0.0, 0.0)
    is_free, may_be_free = (high <= band_low) | (low >= band_high), (low < band_low) | (high > band_high)
    is_yes, may_be_yes = low >= decision.threshold, high > decision.threshold
    return {
        "labelled_yes": _share(num_rows, is_free & is_yes, may_be_free & may_be_yes),
        "coverage": _share(num_rows, is_free, may_be_free),
    }


def _share(num_rows: np.ndarray, certain: np.ndarray, possible: np.ndarray) -> Estimate:
    low, high = (float(num_rows[bins].sum() / num_rows.sum()) for bins in (certain, possible | certain))
    return Estimate(value=(low + high) / 2, low=low, high=high)


def estimate_f1_change(items: JudgedItems, before: Decision, after: Decision, *, seed: int) -> Estimate:
    """Estimates by how much F1 rises from one decision to another, on the same completed tables for both.

    Args:
        items: judged items.
        before: the decision that the table has.
        after: another one.
        seed: of the interval.
    """
    completions = complete(items, num_tables=NUM_TABLES, seed=seed)
    value, tables = (
        _figures(*about, after)["f1"] - _figures(*about, before)["f1"]
        for about in (
            (items.weights[None], items.positive, items.score[None]),
            (completions.weights, completions.positive, completions.score),
        )
    )
    return _summarise(value, tables)


def curve(items: JudgedItems, thresholds: np.ndarray, *, seed: int) -> dict[str, np.ndarray]:
    """Estimates precision and recall at many thresholds.

    Args:
        items: judged items.
        thresholds: float64 [t].
        seed: of the intervals.

    Returns:
        precision and recall, float64 [t, 3]: estimate, lower and upper end of the 95 % interval.
    """
    completions = complete(items, num_tables=NUM_TABLES // 4, seed=seed)
    found: dict[str, list[list[float]]] = {"precision": [], "recall": []}
    for threshold in thresholds:
        decision = Decision(threshold=float(threshold))
        values = _figures(items.weights[None], items.positive, items.score[None], decision)
        tables = _figures(completions.weights, completions.positive, completions.score, decision)
        for name, rows in found.items():
            each = _summarise(values[name], tables[name])
            rows.append([each.value, each.low, each.high])
    return {name: np.array(rows) for name, rows in found.items()}


def _figures(
    weights: np.ndarray, positive: np.ndarray, score: np.ndarray, decision: Decision
) -> Mapping[str, np.ndarray]:
    """Returns figure -> float64 [tables]; weights and score [tables, items], positive [items]."""
    labelled, yes = _is_labelled(score, decision), _label_yes(score, decision)
    both = (weights * (yes & positive)).sum(1)
    said, positives = (weights * yes).sum(1), (weights * (labelled & positive)).sum(1)
    rows = weights.sum(1)
    return {
        "precision": _ratio(both, said),
        "recall": _ratio(both, positives),
        "f1": _ratio(2 * both, said + positives),
        "prevalence": _ratio((weights * positive).sum(1), rows),
    }


def _is_labelled(score: np.ndarray, decision: Decision) -> np.ndarray:
    low, high = decision.abstain or (0.0, 0.0)
    return ~((score > low) & (score < high))


def _label_yes(score: np.ndarray, decision: Decision) -> np.ndarray:
    return _is_labelled(score, decision) & (score >= decision.threshold)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _summarise(value: np.ndarray, tables: np.ndarray) -> Estimate:
    known = tables[~np.isnan(tables)]
    low, high = np.percentile(known, _PERCENTILES) if len(known) else (np.nan, np.nan)
    return Estimate(value=float(value[0]), low=float(low), high=float(high))
