"""report.html of an evaluation: figures with intervals, groups, calibration and plots, in one file."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.figure

from faceattr.evaluation.evaluate import Difference, Evaluation
from faceattr.evaluation.figures import SMALLER_IS_BETTER, Figure, compute_figures
from faceattr.evaluation.gaps import Gap
from faceattr.evaluation.groups import GroupTable
from faceattr.reports.pages import render_page
from faceattr.reports.plots.pictures import to_data_uri

_CLASS_FIGURES = ("precision", "recall", "f1", "ap", "auc")
_MAX_CLASSES = 40


def render_report(
    evaluation: Evaluation,
    *,
    model: str,
    weights_id: str,
    data: Sequence[str],
    counts: Mapping[str, int],
    rejected: Mapping[str, int],
    figures: Mapping[str, matplotlib.figure.Figure],
    differences: Sequence[Difference],
    compared: str | None,
) -> str:
    """Renders the page as HTML with embedded plots.

    Args:
        evaluation: evaluation of the judged split.
        model: name of the model, as given by the user.
        weights_id: hash of the model's files.
        data: URIs of the packed runs.
        counts: split -> number of scored images.
        rejected: reason -> number of images that could not be used.
        figures: title -> plot.
        differences: differences to the compared model.
        compared: name of the compared model, if any.
    """
    return render_page(
        "evaluation_report.html",
        evaluation=evaluation,
        model=model,
        weights_id=weights_id,
        data=data,
        counts=counts,
        rejected=rejected,
        attributes=[_describe(evaluation, name) for name in evaluation.judged],
        combined=_row(evaluation, "combined", "score") if "combined" in evaluation.figures else None,
        pictures=[(title, to_data_uri(figure)) for title, figure in figures.items()],
        groups=[
            {
                "table": table,
                "rows": _group_rows(table.values.tolist(), table.counts.tolist(), table),
                "gaps": [_describe_gap(table.gaps[name]) for name in table.figures],
            }
            for table in evaluation.groups
        ],
        differences=[_difference(each) for each in differences if "/" not in each.name],
        compared=compared,
    )


def _describe(evaluation: Evaluation, name: str) -> dict[str, Any]:
    judged = evaluation.judged[name]
    figures = evaluation.figures[name]
    attribute = judged.attribute
    with_classes = attribute.has_class_figures and len(attribute.classes) <= _MAX_CLASSES and len(judged) > 0
    before = evaluation.uncalibrated[name]
    calibration = evaluation.fitted.calibration.get(name) if len(judged) else None
    return {
        "name": name,
        "num_rows": len(judged),
        "resampling": judged.resampling,
        "figures": [_row(evaluation, name, each) for each in figures if "/" not in each],
        "class_names": _CLASS_FIGURES,
        "classes": [
            {
                "name": each,
                "support": figures[f"recall/{each}"].count,
                "figures": [_row(evaluation, name, f"{figure}/{each}") for figure in _CLASS_FIGURES],
            }
            for each in attribute.classes
        ]
        if with_classes
        else [],
        "threshold": evaluation.fitted.thresholds.get(name),
        "calibration": calibration,
        "trial": evaluation.fitted.trials.get(name),
        "before": _values(compute_figures(before)) if calibration is not None else {},
        "after": _values(figures),
    }


def _values(figures: Mapping[str, Figure]) -> dict[str, float]:
    return {name: each.value for name, each in figures.items()}


def _row(evaluation: Evaluation, attribute: str, name: str) -> dict[str, str]:
    interval = evaluation.intervals.get(attribute, {}).get(name)
    known = interval is not None and not math.isnan(interval.low)
    return {
        "name": name,
        "value": _number(evaluation.figures[attribute][name].value),
        "bounds": f"{interval.low:.3f} to {interval.high:.3f}" if known and interval is not None else "",
    }


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _group_rows(values: list[list[float]], counts: list[int], table: GroupTable) -> list[dict[str, Any]]:
    return [
        {"name": name, "count": count, "values": [_number(value) for value in row], "small": bool(small)}
        for name, count, row, small in zip(table.groups, counts, values, table.small, strict=True)
    ]


def _describe_gap(gap: Gap) -> dict[str, str]:
    low, high = gap.interval.low, gap.interval.high
    return {
        "value": _number(gap.value),
        "bounds": "" if math.isnan(low) else f"{low:.3f} to {high:.3f}",
        "by_chance": _number(gap.by_chance),
        "verdict": gap.verdict,
    }


def _difference(each: Difference) -> dict[str, Any]:
    interval = each.interval
    sure = not math.isnan(interval.low) and not interval.low <= 0 <= interval.high
    gap = each.second - each.first
    better = (gap < 0) == (each.name in SMALLER_IS_BETTER)
    return {
        "attribute": each.attribute,
        "name": each.name,
        "first": _number(each.first),
        "second": _number(each.second),
        "gap": f"{gap:+.3f}",
        "bounds": "" if math.isnan(interval.low) else f"{interval.low:+.3f} to {interval.high:+.3f}",
        "verdict": ("better" if better else "worse") if sure and each.name != "bias" else "",
    }
