"""Report page of a training run: figures of the best epoch, curves, labels, settings."""

from collections.abc import Mapping, Sequence

import yaml

from faceattr.attributes import AttributeSet
from faceattr.data.runs.version import RunRecord
from faceattr.reports.pages import render_page
from faceattr.reports.plots.pictures import to_data_uri
from faceattr.reports.plots.training import draw_labels, draw_training
from faceattr.reports.tables.training import best_record, figures_of
from faceattr.training.loop.state import EpochRecord


def render_training_report(
    record: RunRecord,
    attributes: AttributeSet,
    history: Sequence[EpochRecord],
    counts: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    best_epoch: int,
    objective: str,
) -> str:
    """Renders the page as a single HTML file with embedded plots.

    Args:
        record: record of the run.
        attributes: attributes of the model.
        history: one record per epoch.
        counts: split -> attribute -> number of labels by class.
        best_epoch: number of the best epoch, from 0.
        objective: what the best epoch is chosen by, for a reader.
    """
    best = best_record(history, best_epoch)
    shown = []
    for attribute in attributes.attributes:
        name = attribute.name
        by_class = [
            (label, best[f"val/{name}/f1/{label}"], best[f"val/{name}/recall/{label}"])
            for label in attribute.classes
            if attribute.has_class_figures
        ]
        shown.append(
            {
                "name": name,
                "kind": attribute.kind,
                "count": int(best[f"val/{name}/count"]),
                "figures": list(figures_of(best, attribute).items()),
                "by_class": by_class,
                "labels": to_data_uri(draw_labels(attribute, {split: each[name] for split, each in counts.items()})),
            }
        )
    return render_page(
        "training_report.html",
        record=record,
        best=best,
        objective=objective,
        history=history,
        attributes=shown,
        curves=to_data_uri(draw_training(history, attributes, best_epoch, objective)),
        images=sum(each["images"] for each in history),
        seconds=sum(each["train_s"] + each["val_s"] for each in history),
        config=yaml.safe_dump(_plain(record.config), sort_keys=False, allow_unicode=True),
    )


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
