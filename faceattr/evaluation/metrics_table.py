"""All figures of an evaluation as one table: `metrics.parquet`, and the list `figures` of evaluation.json."""

import math
from typing import Any

import pyarrow as pa

from faceattr.evaluation.evaluate import Evaluation
from faceattr.evaluation.groups import GroupTable
from faceattr.evaluation.intervals import UNKNOWN, Interval

METRICS_SCHEMA = pa.schema(
    [
        pa.field("split", pa.string(), nullable=False),
        pa.field("attribute", pa.string(), nullable=False),
        pa.field("group", pa.string()),
        pa.field("name", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("count", pa.int64(), nullable=False),
    ]
)


def build_metrics(evaluation: Evaluation) -> pa.Table:
    """The table, of `METRICS_SCHEMA`; figures and ends of intervals that are not known are null.

    Figures of groups have the group `<by>=<name>`. Gaps between groups have the group `<by>` and the names
    `gap/<figure>` and `gap_by_chance/<figure>`.
    """
    rows = [
        _row(
            attribute,
            None,
            name,
            figure.value,
            figure.count,
            evaluation.intervals.get(attribute, {}).get(name, UNKNOWN),
        )
        for attribute, figures in evaluation.figures.items()
        for name, figure in figures.items()
    ]
    for table in evaluation.groups:
        rows += [*_group_rows(table), *_gap_rows(table)]
    return pa.Table.from_pylist([{"split": evaluation.split, **row} for row in rows], METRICS_SCHEMA)


def _group_rows(table: GroupTable) -> list[dict[str, Any]]:
    return [
        _row(table.attribute, f"{table.by}={group}", name, value, count)
        for group, count, values in zip(table.groups, table.counts.tolist(), table.values.tolist(), strict=True)
        for name, value in zip(table.figures, values, strict=True)
    ]


def _gap_rows(table: GroupTable) -> list[dict[str, Any]]:
    rows = []
    count = table.resampling.num_rows
    for name, gap in table.gaps.items():
        rows.append(_row(table.attribute, table.by, f"gap/{name}", gap.value, count, gap.interval))
        rows.append(_row(table.attribute, table.by, f"gap_by_chance/{name}", gap.by_chance, count))
    return rows


def _row(
    attribute: str, group: str | None, name: str, value: float, count: int, interval: Interval = UNKNOWN
) -> dict[str, Any]:
    numbers = {"value": value, "low": interval.low, "high": interval.high}
    known = {key: None if math.isnan(number) else number for key, number in numbers.items()}
    return {"attribute": attribute, "group": group, "name": name, **known, "count": count}
