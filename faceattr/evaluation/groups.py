"""Figures by group of people, computed by fairlearn's MetricFrame, and the gaps between groups (`gaps.py`).

A gap is the largest minus the smallest value of a figure over the groups with enough rows. Small groups are shown and
marked but not included in it, since their figures are mostly noise.
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
    """Figures of one attribute by group: by one attribute of the people, or by several crossed.

    Attributes:
        attribute: attribute that the figures are about.
        by: attributes that define the groups.
        figures: names of the figures, in column order.
        groups: name of each group.
        counts: int64 [groups], number of rows.
        values: float64 [groups, figures].
        small: bool [groups], true for groups with too few rows or only one cluster (`clusters.py`).
        gaps: figure -> largest minus smallest over the groups that are not small; NaN with fewer than two such groups.
        resampling: independent units behind the intervals of the gaps.
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
    """Returns, by attribute name, the group of each row of a scored table: a class, a decade of age, or `unknown`.

    Raises:
        ConfigError: the data has no such attribute, or it is an identity.
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
    """Computes a table for each name of `groups`, and one for all of them crossed if there are several.

    Args:
        judged: rows of one attribute.
        groups: name -> group of each row of the scored table; see `read_groups`.
        min_rows: minimum number of rows for a group to count in gaps.
        resamples: number of bootstrap resamples for the intervals of the gaps.
        seed: seed of the resamples.
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
            # sklearn warns of figures that are NaN here: a group lacks a class.
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
        # Photos of a single person, however many, say nothing about the other people of the group.
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
