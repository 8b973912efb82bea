"""The cards of a model and of a label table on the Hugging Face hub: README.md, whose header the hub reads."""

import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2

from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.hub.label_dataset import LabelDataset
from faceattr.version import __version__

# An absolute path of a machine; addresses with a scheme and fractions such as 1/2 are none.
_LOCAL_PATH = re.compile(r"(?<![\w/:.~-])(?:~|/[\w.@+-]+)(?:/[\w.@+-]+)*/([\w.@+-]+)")


def write_dataset_card(dataset: LabelDataset) -> str:
    """Renders the card of a label table as Markdown."""
    record = dataset.record
    model = without_local_paths(str(record.config.get("model") or "several label runs"))
    return _render(
        "hub_dataset_card.md",
        attributes=_describe(dataset.attributes),
        num_rows=dataset.num_rows,
        num_images=dataset.num_images,
        has_scores=any(name.endswith("_score") for name in dataset.columns),
        made_by=f"The labels are those that {model} gave, a {record.kind} run of faceattr.",
        sensitive=record.config.get("allow_sensitive"),
        version=__version__,
    )


def write_basic_card(attributes: AttributeSet, *, backbone: str, size_px: int, thresholds: Mapping[str, float]) -> str:
    """Renders the card of a model that has not been evaluated, as Markdown.

    Args:
        attributes: what it predicts.
        backbone: name of the backbone.
        size_px: side of its images.
        thresholds: attribute or derived attribute -> threshold, where it is not the default.
    """
    return _render(
        "hub_model_card.md",
        attributes=_describe({each.name: each for each in attributes.attributes}),
        backbone=without_local_paths(backbone),
        size_px=size_px,
        thresholds=thresholds,
        version=__version__,
    )


def without_local_paths(text: str) -> str:
    """Returns a text in which absolute paths of a machine are their last name: they say who worked where."""
    return _LOCAL_PATH.sub(r"\1", text)


def _describe(attributes: Mapping[str, Attribute]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "label_words": each.label_words,
            "classes": each.classes if each.has_class_scores and not each.is_yes_no else (),
        }
        for name, each in attributes.items()
    ]


def _render(template: str, **values: object) -> str:
    text = resources.files("faceattr.reports").joinpath(f"templates/{template}").read_text("utf-8")
    environment = jinja2.Environment(  # noqa: S701 - Markdown
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(text).render(**values)
