"""Figures by group of people, by fairlearn's MetricFrame, and the gaps between groups (`gaps.py`).

A gap is the largest minus the smallest value of a figure over the groups with enough rows; small groups are shown,
marked, and left out of it, since their figures are mostly noise.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from fairlearn.metrics import MetricFrame, count

from faceattr.attributes import Attribute
from faceattr.data.packed.label_counts import UNKNOWN
from faceattr.errors import ConfigError
from faceattr.evaluation.figures import group_metrics
from faceattr.evaluation.gaps import UNKNOWN_GAP, Gap, compute_gaps
from faceattr.evaluation.judged import JudgedRows
from faceattr.evaluation.uncertainty.clusters import Resampling, number_clusters

_DECADES = 10
_CROSSED = " x "


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
        small: bool [groups], fewer rows than asked for, or all of one cluster (`clusters.py`).
        gaps: figure -> largest minus smallest over the groups that are not small; NaN with fewer than two of them.
        resampling: what the gaps' intervals took as independent.
    """

    attribute: str
    by: str
    figures: tuple[str, ...]
    groups: tuple[str, ...]
    counts: np.ndarray
    values: np.ndarray
    small: np.ndarray
    gaps: Mapping[str, Gap]
    resampling: Resampling


def read_groups(table: pa.Table, attributes: Mapping[str, Attribute], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Group of each row of a scored table, by name: a class, or a decade of age, or `unknown`.

    Raises:
        ConfigError: the data has no such attribute, or persons are asked for.
    """
    found = {}
    for name in names:
        attribute = attributes.get(name)
        if attribute is None or attribute.is_person:
            allowed = [each.name for each in attributes.values() if not each.is_person]
            raise ConfigError(f"--group-by {name}: expected attributes of the data, {', '.join(allowed)}")
        if attribute.is_years:
            years = table[f"{name}_low"].to_numpy(zero_copy_only=False).astype(np.float64)
            decades = np.nan_to_num(years // _DECADES * _DECADES).astype(np.int64)
            words = np.array([f"{decade:02d}-{decade + _DECADES - 1}" for decade in decades], object)
            found[name] = np.where(np.isnan(years), UNKNOWN, words)
            continue
        index = table[name].fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        found[name] = np.array([*attribute.classes, UNKNOWN], object)[index]
    return found


def compute_group_tables(
    judged: JudgedRows, groups: Mapping[str, np.ndarray], *, min_rows: int, resamples: int, seed: int
) -> list[GroupTable]:
    """A table for each name of `groups`, and one for all of them crossed where there are several.

    Args:
        judged: rows of one attribute.
        groups: name -> group of each row of the scored table, see `read_groups`.
        min_rows: that a group needs to count in gaps.
        resamples: of the bootstrap behind the gaps' intervals.
        seed: of the same.
    """
    splits: list[tuple[str, ...]] = [(name,) for name in groups]
    if len(groups) > 1:
        splits.append(tuple(groups))
    if judged.attribute.is_years:
        judged = judged.take(judged.labels[:, 1] - judged.labels[:, 0] <= 1)
    if not len(judged):
        return []
    labels = judged.labels[:, 0] if judged.attribute.is_years else judged.labels
    metrics = group_metrics(judged.attribute)
    tables = []
    for names in splits:
        by = _CROSSED.join(names)
        parts = [groups[name][judged.rows] for name in names]
        features = np.array([_CROSSED.join(values) for values in zip(*parts, strict=True)], object)
        with warnings.catch_warnings():
            # sklearn warns of what is NaN here: a class that a group lacks.
            warnings.simplefilter("ignore")
            frame = MetricFrame(
                metrics={"count": count, **metrics},
                y_true=labels,
                y_pred=judged.predictions,
                sensitive_features=pd.Series(features, name=by, dtype=object),
            ).by_group
        counts = frame["count"].to_numpy().astype(np.int64)
        values = frame[list(metrics)].to_numpy().astype(np.float64)
        found = np.array(frame.index, object)
        known = np.array([UNKNOWN not in name.split(_CROSSED) for name in found])
        # However many photos of one person there are, they say nothing of how others of the group fare.
        owners = number_clusters(judged.clusters, len(judged))
        owned = np.unique(np.stack([pd.Index(found).get_indexer(features), owners]), axis=1)
        units = np.bincount(owned[0], minlength=len(found))
        small = (counts < min_rows) | (units < 2)
        large = found[~small & known]
        chosen = np.isin(features, large)
        gaps = dict.fromkeys(metrics, UNKNOWN_GAP)
        if len(large) > 1:
            gaps = compute_gaps(judged.take(chosen), features[chosen], resamples=resamples, seed=seed)
        tables.append(
            GroupTable(
                attribute=judged.attribute.name,
                by=by,
                figures=tuple(metrics),
                groups=tuple(map(str, found)),
                counts=counts,
                values=values,
                small=small,
                gaps=gaps,
                resampling=judged.take(chosen).resampling,
            )
        )
    return tables
