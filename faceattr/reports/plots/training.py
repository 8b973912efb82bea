"""Plots of a training run: its curves, and the distribution of labels over the splits."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.figure
import matplotlib.ticker
import numpy as np

from faceattr.attributes import Attribute, AttributeSet
from faceattr.training.loop.state import EpochRecord

_BLUE, _ORANGE, _GRAY = "#2f6db3", "#d9772b", "#9aa3ad"
_SPLIT_COLOURS = {"train": _BLUE, "val": _ORANGE, "test": _GRAY}
# More classes than these are drawn as a curve of counts, in decreasing order.
_MAX_BARS = 20


def draw_training(
    history: Sequence[EpochRecord], attributes: AttributeSet, best_epoch: int, objective: str
) -> matplotlib.figure.Figure:
    """Draws losses, the objective, each attribute's main figure, learning rate and throughput by epoch.

    Args:
        history: one record per epoch.
        attributes: attributes of the model.
        best_epoch: number of the best epoch, from 0.
        objective: name of what the best epoch is chosen by.
    """
    figure = matplotlib.figure.Figure(figsize=(11, 7), layout="constrained")
    (losses, chosen), (figures, speed) = figure.subplots(2, 2)
    epochs = [record["epoch"] + 1 for record in history]
    losses.plot(epochs, [record["train/loss"] for record in history], color=_BLUE, label="train")
    losses.plot(epochs, [record["val/loss"] for record in history], color=_ORANGE, label="validation")
    losses.set_ylabel("loss")
    chosen.plot(epochs, [record["objective"] for record in history], color=_BLUE)
    chosen.axvline(best_epoch + 1, color=_GRAY, lw=1, ls="--", label=f"best epoch {best_epoch + 1}")
    chosen.set_ylabel(objective)
    ages = figures.twinx()
    for attribute in attributes.attributes:
        name = attribute.main_figure
        values = [record[f"val/{attribute.name}/{name}"] for record in history]
        if not any(math.isfinite(value) for value in values):
            continue
        axes, style = (ages, "--") if attribute.is_years else (figures, "-")
        axes.plot(
            epochs, values, style, label=f"{attribute.name} {name}{' (years, right)' if attribute.is_years else ''}"
        )
    figures.set_ylim(0, 1.02)
    figures.set_ylabel("validation")
    ages.set_visible(any(each.is_years for each in attributes.attributes))
    speed.plot(epochs, [record["images_per_s"] for record in history], color=_BLUE, label="images/s")
    speed.set_ylim(bottom=0)
    speed.set_ylabel("images/s")
    rate = speed.twinx()
    rate.plot(epochs, [record["lr"] for record in history], color=_ORANGE, label="learning rate (right)")
    rate.set_ylim(bottom=0)
    rate.yaxis.set_major_formatter("{x:g}")  # matplotlib's own sets a lone 1e-5 above the axis
    for axes, others in ((losses, ()), (chosen, ()), (figures, (ages,)), (speed, (rate,))):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        handles = [line for each in (axes, *others) for line in each.get_legend_handles_labels()[0]]
        if handles:
            axes.legend(handles=handles, frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return figure


def draw_labels(attribute: Attribute, counts: Mapping[str, Sequence[float]]) -> matplotlib.figure.Figure:
    """Draws the share of each class in every split.

    Args:
        attribute: attribute of the labels.
        counts: split -> number of labels by class, or by year for an age.
    """
    figure = matplotlib.figure.Figure(figsize=(6.4, 2.2), layout="constrained")
    axes = figure.subplots()
    names = list(attribute.classes) or [str(year) for year in range(len(next(iter(counts.values()))))]
    shares = {split: np.array(each) / max(1.0, sum(each)) for split, each in counts.items()}
    if len(names) > _MAX_BARS:
        _draw_curves(axes, attribute, shares)
    else:
        places, width = np.arange(len(names)), 0.8 / len(shares)
        for number, (split, values) in enumerate(shares.items()):
            shift = (number - (len(shares) - 1) / 2) * width
            axes.bar(places + shift, values, width, color=_SPLIT_COLOURS[split], label=split)
        turned: dict[str, Any] = {"rotation": 30, "ha": "right"} if max(map(len, names)) > 8 else {}
        axes.set_xticks(places, names, **turned)
    soft = any(value != round(value) for each in counts.values() for value in each)
    axes.set_ylabel("share of labels" + ("\n(soft labels in parts)" if soft else ""), fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _draw_curves(axes: Any, attribute: Attribute, shares: Mapping[str, np.ndarray]) -> None:
    for split, values in shares.items():
        drawn = values if attribute.is_years else np.sort(values)[::-1]
        axes.step(range(len(drawn)), drawn, where="mid", color=_SPLIT_COLOURS[split], label=split)
    axes.set_xlabel("years" if attribute.is_years else "classes, largest first", fontsize=8)
