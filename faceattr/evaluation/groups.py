"""Figures by group of people, by fairlearn's MetricFrame, and the gaps between groups.

A gap is the largest minus the smallest value of a figure over the groups with enough rows; small groups are shown,
marked, and left out of it, since their figures are mostly noise.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from fairlearn.metrics import MetricFrame, count, false_positive_rate, selection_rate
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    mean_absolute_error,
    precision_score,
    recall_score,
)

from faceattr.attributes import Attribute
from faceattr.errors import ConfigError
from faceattr.evaluation.judged import Judged

UNKNOWN = "unknown"
_DECADES = 10
_Metric = Callable[[np.ndarray, np.ndarray], float]
_BINARY: dict[str, _Metric] = {
    "accuracy": accuracy_score,
    "precision": lambda labels, said: precision_score(labels, said, zero_division=np.nan),
    "recall": lambda labels, said: recall_score(labels, said, zero_division=np.nan),
    "false_positive_rate": lambda labels, said: false_positive_rate(labels, said, pos_label=1),
    "selection_rate": lambda labels, said: selection_rate(labels, said, pos_label=1),
    "f1": lambda labels, said: f1_score(labels, said, zero_division=np.nan),
}
_CLASSES: dict[str, _Metric] = {
    "accuracy": accuracy_score,
    "balanced_accuracy": balanced_accuracy_score,
    "macro_f1": lambda labels, said: f1_score(labels, said, average="macro", zero_division=np.nan),
}
_AGES: dict[str, _Metric] = {
    "mae": mean_absolute_error,
    "bias": lambda years, said: float((said - years).mean()),
}
_PERSONS: dict[str, _Metric] = {"top1": accuracy_score}


@dataclass(frozen=True, kw_only=True)
class GroupTable:
    """One attribute, split by one attribute of the people, or by several crossed.

    Attributes:
        attribute: whose figures.
        by: what splits the rows.
        figures: names, in column order.
        groups: name of each group.
        counts: int64 [groups], rows of each.
        values: float64 [groups, figures].
        small: bool [groups], fewer rows than asked for.
        gaps: figure -> largest minus smallest over the groups that are not small; NaN with fewer than two of them.
    """

    attribute: str
    by: str
    figures: tuple[str, ...]
    groups: tuple[str, ...]
    counts: np.ndarray
    values: np.ndarray
    small: np.ndarray
    gaps: Mapping[str, float]


def read_groups(table: pa.Table, attributes: Mapping[str, Attribute], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Group of each row of a scored table, by name: a class, or a decade of age, or `unknown`.

    Raises:
        ConfigError: the data has no such attribute, or persons are asked for.
    """
    found = {}
    for name in names:
        attribute = attributes.get(name)
        if attribute is None or attribute.kind == "identity":
            allowed = [each.name for each in attributes.values() if each.kind != "identity"]
            raise ConfigError(f"--group-by {name}: expected attributes of the data, {', '.join(allowed)}")
        if attribute.kind == "age":
            years = table[f"{name}_low"].to_numpy(zero_copy_only=False).astype(np.float64)
            decades = np.nan_to_num(years // _DECADES * _DECADES).astype(np.int64)
            words = np.array([f"{decade:02d}-{decade + _DECADES - 1}" for decade in decades], object)
            found[name] = np.where(np.isnan(years), UNKNOWN, words)
            continue
        index = table[name].fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        found[name] = np.array([*attribute.classes, UNKNOWN], object)[index]
    return found


def compute_group_tables(judged: Judged, groups: Mapping[str, np.ndarray], *, min_rows: int) -> list[GroupTable]:
    """A table for each name of `groups`, and one for all of them crossed where there are several."""
    splits: list[tuple[str, ...]] = [(name,) for name in groups]
    if len(groups) > 1:
        splits.append(tuple(groups))
    labels, predictions, metrics = _prepare(judged)
    if not len(labels):
        return []
    rows = judged.rows if judged.attribute.kind != "age" else judged.rows[_exact(judged)]
    tables = []
    for names in splits:
        features = [" x ".join(values) for values in zip(*(groups[name][rows] for name in names), strict=True)]
        frame = MetricFrame(
            metrics={"count": count, **metrics},
            y_true=labels,
            y_pred=predictions,
            sensitive_features=pd.Series(features, name=" x ".join(names), dtype=object),
        )
        tables.append(_read_frame(judged.attribute.name, " x ".join(names), frame, tuple(metrics), min_rows))
    return tables


def _read_frame(attribute: str, by: str, frame: MetricFrame, figures: tuple[str, ...], min_rows: int) -> GroupTable:
    by_group = frame.by_group
    counts = by_group["count"].to_numpy().astype(np.int64)
    values = by_group[list(figures)].to_numpy().astype(np.float64)
    small = counts < min_rows
    large = values[~small & (np.array(by_group.index) != UNKNOWN)]
    gaps = {}
    for place, name in enumerate(figures):
        known = large[:, place][~np.isnan(large[:, place])]
        gaps[name] = float(known.max() - known.min()) if len(known) > 1 else float("nan")
    return GroupTable(
        attribute=attribute,
        by=by,
        figures=figures,
        groups=tuple(map(str, by_group.index)),
        counts=counts,
        values=values,
        small=small,
        gaps=gaps,
    )


def _prepare(judged: Judged) -> tuple[np.ndarray, np.ndarray, dict[str, _Metric]]:
    match judged.attribute.kind:
        case "binary":
            return judged.labels, judged.predictions, _BINARY
        case "multiclass":
            return judged.labels, judged.predictions, _CLASSES
        case "age":
            exact = _exact(judged)
            return judged.labels[exact, 0], judged.predictions[exact], _AGES
        case "identity":
            return judged.labels, judged.predictions, _PERSONS


def _exact(judged: Judged) -> np.ndarray:
    return np.asarray(judged.labels[:, 1] - judged.labels[:, 0] <= 1)
