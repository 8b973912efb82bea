"""All figures of an evaluation as one table: `metrics.parquet`, and the list `figures` of evaluation.json."""

import math
from typing import Any

import pyarrow as pa

from faceattr.evaluation.evaluate import Evaluation
from faceattr.evaluation.groups import GroupTable
from faceattr.evaluation.uncertainty.intervals import NO_INTERVAL, Interval

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
    """Builds the table with `METRICS_SCHEMA`; undefined figures and unknown interval ends are null.

    Figures of a group have the group `<by>=<name>`. Gaps between groups have the group `<by>` and the names
    `gap/<figure>` and `gap_by_chance/<figure>`.
    """
    rows = []
    for attribute, figures in evaluation.figures.items():
        intervals = evaluation.intervals.get(attribute, {})
        for name, figure in figures.items():
            row = {"attribute": attribute, "group": None, "name": name, "count": figure.count}
            rows.append({**row, **_numbers(figure.value, intervals.get(name, NO_INTERVAL))})
    for table in evaluation.groups:
        rows += [{"attribute": table.attribute, **row} for row in (*_group_rows(table), *_gap_rows(table))]
    return pa.Table.from_pylist([{"split": evaluation.split, **row} for row in rows], METRICS_SCHEMA)


def _group_rows(table: GroupTable) -> list[dict[str, Any]]:
    return [
        {"group": f"{table.by}={group}", "name": name, "count": count, **_numbers(value)}
        for group, count, values in zip(table.groups, table.counts.tolist(), table.values.tolist(), strict=True)
        for name, value in zip(table.figures, values, strict=True)
    ]


def _gap_rows(table: GroupTable) -> list[dict[str, Any]]:
    common = {"group": table.by, "count": table.resampling.num_rows}
    rows = []
    for name, gap in table.gaps.items():
        rows.append({**common, "name": f"gap/{name}", **_numbers(gap.value, gap.interval)})
        rows.append({**common, "name": f"gap_by_chance/{name}", **_numbers(gap.by_chance)})
    return rows


def _numbers(value: float, interval: Interval = NO_INTERVAL) -> dict[str, Any]:
    numbers = {"value": value, "low": interval.low, "high": interval.high}
    return {key: None if math.isnan(number) else number for key, number in numbers.items()}
