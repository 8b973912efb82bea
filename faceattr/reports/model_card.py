"""MODEL_CARD.md: intended use, evaluation data, figures, and limits of a model."""

import math
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2

from faceattr.evaluation.evaluate import Evaluation
from faceattr.evaluation.figures import card_figures
from faceattr.reports.tables.numbers import show_interval, show_number


def write_model_card(
    evaluation: Evaluation,
    *,
    model: str,
    backbone: str,
    weights_id: str,
    data: Sequence[str],
    counts: Mapping[str, int],
    versions: Mapping[str, str],
) -> str:
    """Renders the card as Markdown.

    Args:
        evaluation: evaluation on the test split.
        model: name of the model, as given by the user.
        backbone: name of the backbone.
        weights_id: hash of the model's files.
        data: URIs of the packed runs.
        counts: split -> number of images.
        versions: package name -> version.
    """
    template = resources.files("faceattr.reports").joinpath("templates/model_card.md").read_text("utf-8")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # noqa: S701 - Markdown
    attributes = []
    for name, judged in evaluation.judged.items():
        figures = evaluation.figures[name]
        attributes.append(
            {
                "name": name,
                "kind": judged.attribute.kind,
                "classes": judged.attribute.classes if judged.attribute.has_class_figures else (),
                "num_rows": len(judged),
                "figures": [
                    _describe(evaluation, name, each) for each in card_figures(judged.attribute) if each in figures
                ],
                "threshold": evaluation.fitted.thresholds.get(name),
                "calibration": evaluation.fitted.calibration.get(name, {}).get("method"),
                "weakest": _weakest_class(evaluation, name),
            }
        )
    return environment.from_string(template).render(
        model=model,
        backbone=backbone,
        weights_id=weights_id,
        data=data,
        counts=counts,
        split=evaluation.split,
        attributes=attributes,
        groups=[table for table in evaluation.groups if " x " not in table.by],
        versions=versions,
        notes=evaluation.fitted.notes,
    )


def _describe(evaluation: Evaluation, attribute: str, name: str) -> dict[str, Any]:
    figure = evaluation.figures[attribute][name]
    bounds = show_interval(evaluation.intervals[attribute].get(name))
    return {"name": name, "text": f"{show_number(figure.value)} {bounds}".rstrip()}


def _weakest_class(evaluation: Evaluation, attribute: str) -> str | None:
    """Returns the class with the lowest recall, which a mean hides."""
    recalls = {
        name.removeprefix("recall/"): figure
        for name, figure in evaluation.figures[attribute].items()
        if name.startswith("recall/") and not math.isnan(figure.value)
    }
    if not recalls:
        return None
    name = min(recalls, key=lambda each: recalls[each].value)
    return f"{name} (recall {recalls[name].value:.2f} on {recalls[name].count:,} rows)"
