"""report.html of an audit: figures with intervals, scores, and precision and recall by threshold, in one file."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.compute as pc

from faceattr.audit.estimates import Estimate
from faceattr.audit.folder import Sample
from faceattr.audit.result import AttributeResult, AuditResult
from faceattr.reports.pages import render_page
from faceattr.reports.plots.audit import draw_curve, draw_scores
from faceattr.reports.plots.pictures import to_data_uri
from faceattr.reports.strips.images import Strip

_WORDS = {"labelled_yes": "labelled yes", "coverage": "have a label"}


def render_audit_report(
    sample: Sample, result: AuditResult, strips: Mapping[str, Sequence[Strip[int]]] | None = None
) -> str:
    """Renders the page as HTML with embedded plots.

    Args:
        sample: the audit.
        result: what its judgements say.
        strips: attribute -> strips of images; by default none.
    """
    strips = strips or {}
    return render_page(
        "audit_report.html",
        audit=sample.audit,
        reviewers=result.reviewers,
        agreement=result.agreement,
        lists=[each for each in result.lists if each.rows.num_listed],
        has_strips=bool(strips),
        attributes=[_describe(sample, each, strips.get(each.attribute.name, ())) for each in result.attributes],
    )


def _describe(sample: Sample, result: AttributeResult, strips: Sequence[Strip[int]]) -> dict[str, Any]:
    name = result.attribute.name
    scores = sample.scores.filter(pc.equal(sample.scores["attribute"], name))
    thresholds = {}
    if result.attribute.has_threshold:
        thresholds["now"] = result.before.threshold
        if result.after is not None:
            thresholds["chosen"] = result.after.threshold
    low, high, num_rows = (scores[key].to_numpy() for key in ("low", "high", "num_rows"))
    histogram = draw_scores(low, high, num_rows, thresholds)
    return {
        "name": name,
        "result": result,
        "num_rows": sample.audit[name].num_rows,
        "rows": [
            {"name": _WORDS.get(figure, figure), "now": _interval(each), "chosen": _after(result, figure)}
            for figure, each in result.figures.items()
        ],
        "histogram": to_data_uri(histogram),
        "strips": strips,
        "curve": None if result.curve is None else to_data_uri(draw_curve(result.curve, thresholds)),
    }


def _after(result: AttributeResult, figure: str) -> str:
    return _interval(result.figures_after[figure]) if figure in result.figures_after else ""


def _interval(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return "–"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"
