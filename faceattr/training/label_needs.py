"""Checks before a training starts that its data has the labels it needs, from the label counts of packed runs."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from faceattr.attributes import Attribute, AttributeSet
from faceattr.config.fit import SelectionConfig
from faceattr.data.packed.label_counts import UNKNOWN
from faceattr.data.packed.reader import PackedData
from faceattr.errors import ConfigError
from faceattr.models.heads import NUM_YEARS
from faceattr.training.loop.epoch import validation_figures
from faceattr.training.loop.selection import Selection
from faceattr.training.metrics import Metrics
from faceattr.training.targets import Targets

# Number of rows per class in the check; a metric that is defined for one row is defined for any number.
_ROWS = 2
_UNLEARNT = "--attributes"


def check_label_needs(
    select: SelectionConfig, attributes: AttributeSet, data: PackedData, *, unlearnt: str = _UNLEARNT
) -> None:
    """Raises an error if the data lacks labels that the training needs.

    Args:
        select: how the best epoch is chosen.
        attributes: attributes to train.
        data: packed runs.
        unlearnt: see `refuse_unlabelled`.

    Raises:
        ConfigError: an attribute has no training label, or the selected validation metric does not exist (the error
            lists similar ones) or is undefined on the validation labels.
    """
    empty = [name for name in attributes.names if not _may_be_learnt(data, "train", name)]
    refuse_unlabelled(attributes, empty, unlearnt)
    Selection(select, validation_figures(Metrics(attributes)))
    figures = best_figures(attributes, {name: data.count_labels("val", name) for name in attributes.names})
    for metric in select.combine or [select.metric]:
        name = metric.partition("/")[0]
        if metric == "loss":
            lacking = not any(_may_be_learnt(data, "val", each) for each in attributes.names)
        elif metric == f"{name}/loss":
            lacking = not _may_be_learnt(data, "val", name)
        else:
            lacking = math.isnan(figures[metric])
        if lacking:
            counts = {} if metric == "loss" else data.count_labels("val", name)
            shown = ", ".join(f"{each} {count:,}" for each, count in list(counts.items())[:8])
            raise ConfigError(
                f"--select.metric {metric!r}: no validation image has a label of "
                f"{'any attribute' if metric == 'loss' else repr(name)} that defines it"
                f"{f' (found {shown})' if shown else ''}; choose another metric, or pack data with a validation split "
                "that has them"
            )


def refuse_unlabelled(attributes: AttributeSet, empty: list[str], unlearnt: str = _UNLEARNT) -> None:
    """Raises ConfigError for attributes without training labels; `unlearnt` is the advice how to leave them out."""
    if not empty:
        return
    rest = [name for name in attributes.names if name not in empty]
    raise ConfigError(
        f"no training image has a label of {empty}, so it cannot be learnt. Leave it out: {unlearnt} "
        f"{' '.join(rest) or '(nothing is left)'}"
    )


def best_figures(attributes: AttributeSet, counts: Mapping[str, Mapping[str, int]]) -> dict[str, float]:
    """Returns the validation figures of a perfect model; NaN for figures that the labels do not define.

    Args:
        attributes: attributes to train.
        counts: attribute name -> label as in `faceattr.data.packed.label_counts` -> number of rows.
    """
    metrics = Metrics(attributes)
    for attribute in attributes.attributes:
        found = [name for name, count in counts[attribute.name].items() if count and name != UNKNOWN]
        outputs, targets = _right_rows(attribute, found)
        metrics.by_attribute[attribute.name].add(outputs, targets)
    return metrics.finish()


def _may_be_learnt(data: PackedData, split: str, name: str) -> bool:
    """Whether a split has labels of an attribute, or may have scores, which are not counted."""
    counts = data.count_labels(split, name)
    return name in data.scored or any(count for label, count in counts.items() if label != UNKNOWN)


def _right_rows(attribute: Attribute, found: list[str]) -> tuple[Tensor, Targets]:
    """Returns correct outputs and labels for some rows of each label that was found."""
    if attribute.is_years:
        # Decades do not distinguish exact ages from ranges: either may occur.
        value = torch.tensor([[5.0, 6.0], [0.0, 10.0]] if found else []).reshape(-1, 2)
        outputs = one_hot(torch.full((len(value),), 5), NUM_YEARS).float() * 20
        return outputs, _targets(value)
    classes = attribute.classes
    labels = torch.tensor([classes.index(name) for name in found if name in classes for _ in range(_ROWS)]).long()
    joined = [name.split("|") for name in found if name not in classes]
    if attribute.is_yes_no:
        return (labels.float()[:, None] - 0.5) * 8, _targets(labels.float())
    coarse = torch.tensor([[name in each for name in classes] for each in joined]).reshape(-1, len(classes)).bool()
    outputs = torch.cat([one_hot(labels, len(classes)), coarse.long()]).float() * 8
    known = torch.arange(len(outputs)) < len(labels)
    value = torch.cat([labels, torch.zeros(len(coarse), dtype=torch.int64)])
    possible = torch.cat([torch.zeros(len(labels), len(classes), dtype=torch.bool), coarse])
    return outputs, Targets(value=value, known=known, weight=torch.ones(len(value)), coarse=possible)


def _targets(value: Tensor) -> Targets:
    return Targets(value=value, known=torch.ones(len(value), dtype=torch.bool), weight=torch.ones(len(value)))
