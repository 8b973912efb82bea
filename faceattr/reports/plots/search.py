"""Plots of a search: parallel coordinates, hyperparameter importance, main against auxiliary, objective by epoch."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.figure
import matplotlib.ticker
import numpy as np
import numpy.typing as npt

from faceattr.search.comparison.front import find_front
from faceattr.search.distributions import Choice, Uniform
from faceattr.search.records import TrialRecord
from faceattr.search.space import Space

_BLUE, _ORANGE, _GRAY = "#2f6db3", "#d9772b", "#9aa3ad"


def draw_coordinates(space: Space, records: Sequence[TrialRecord], best: TrialRecord) -> matplotlib.figure.Figure:
    """Draws one line per judged trial over its settings and objective; darker is better, the best one is orange."""
    judged = [record for record in records if record.judgement is not None]
    axes_names = [*space.searched, "objective"]
    objectives = np.array([_objective(record) for record in judged])
    columns = [_places(space, key, judged) for key in space.searched] + [_scale(objectives)]
    figure = matplotlib.figure.Figure(figsize=(max(7.0, 1.5 * len(axes_names)), 4.6), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(axes_names))
    ranks = np.argsort(np.argsort(objectives)) / max(1, len(judged) - 1)
    for index in np.argsort(objectives):
        values = [column[index] for column in columns]
        is_best = judged[index].number == best.number
        axes.plot(
            places,
            values,
            color=_ORANGE if is_best else _BLUE,
            alpha=1.0 if is_best else 0.12 + 0.6 * float(ranks[index]),
            lw=2.4 if is_best else 1.1,
            marker="o",
            ms=3,
            zorder=3 if is_best else 2,
        )
    for place, key in enumerate(axes_names):
        axes.axvline(place, color=_GRAY, lw=0.8, zorder=1)
        for height, text in _ticks(space, key, objectives):
            axes.text(place + 0.03, height, text, fontsize=7, va="center", color="#46505b")
    axes.set_xticks(places, [key.replace(".", ".\n") for key in axes_names], fontsize=8)
    axes.set_yticks([])
    axes.set_ylim(-0.08, 1.08)
    axes.spines[["left", "top", "right", "bottom"]].set_visible(False)
    return figure


def _objective(record: TrialRecord) -> float:
    assert record.judgement is not None
    return record.judgement.objective


def _scale(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    low, high = values.min(), values.max()
    return np.full(len(values), 0.5) if high == low else (values - low) / (high - low)


def _places(space: Space, key: str, records: Sequence[TrialRecord]) -> npt.NDArray[np.float64]:
    """Returns the height of each trial on the axis of a key; NaN leaves a gap if the trial lacks the key."""
    distribution = space.searched[key].distribution
    extremes = [*distribution.extremes]
    heights = []
    for record in records:
        value: Any = record.values.get(key)
        if key not in space.active(record.values):
            heights.append(math.nan)
        elif isinstance(distribution, Choice):
            heights.append(extremes.index(value) / max(1, len(extremes) - 1))
        else:
            low, high, x = extremes[0], extremes[1], value
            if isinstance(distribution, Uniform) and distribution.log:
                low, high, x = math.log(low), math.log(high), math.log(x)
            heights.append(0.5 if high == low else (x - low) / (high - low))
    return np.array(heights)


def _ticks(space: Space, key: str, objectives: npt.NDArray[np.float64]) -> list[tuple[float, str]]:
    if key == "objective":
        return [(0.0, f"{objectives.min():.3f}"), (1.0, f"{objectives.max():.3f}")]
    distribution = space.searched[key].distribution
    values = list(distribution.extremes)
    heights = np.linspace(0, 1, len(values)) if len(values) > 1 else [0.0]
    return [
        (float(height), f"{value:.3g}" if isinstance(value, float) else str(value))
        for height, value in zip(heights, values, strict=True)
    ]


def draw_importances(importances: Mapping[str, float]) -> matplotlib.figure.Figure:
    """Draws one bar per setting, the largest on top."""
    figure = matplotlib.figure.Figure(figsize=(6.4, 0.5 + 0.32 * len(importances)), layout="constrained")
    axes = figure.subplots()
    names = list(importances)[::-1]
    axes.barh(names, [importances[name] for name in names], color=_BLUE, height=0.6)
    axes.set_xlabel("share of the objective's variance", fontsize=8)
    _plain(axes)
    return figure


def draw_front(records: Sequence[TrialRecord], best: TrialRecord) -> matplotlib.figure.Figure:
    """Draws main against auxiliary attributes, with the Pareto front as a line."""
    figure = matplotlib.figure.Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    points = [(_main(record), _auxiliary(record)) for record in records]
    axes.scatter([x for x, _ in points], [y for _, y in points], color=_BLUE, s=18, alpha=0.6, label="trials")
    front = sorted((_main(record), _auxiliary(record)) for record in find_front(records))
    axes.plot([x for x, _ in front], [y for _, y in front], color=_ORANGE, marker="o", ms=4, label="front")
    axes.scatter([_main(best)], [_auxiliary(best)], color=_ORANGE, s=90, marker="*", zorder=3, label=best.name)
    axes.set_xlabel("objective", fontsize=8)
    axes.set_ylabel("mean of the auxiliary attributes", fontsize=8)
    axes.legend(frameon=False, fontsize=8)
    _plain(axes)
    return figure


def _main(record: TrialRecord) -> float:
    return _objective(record)


def _auxiliary(record: TrialRecord) -> float:
    assert record.judgement is not None
    assert record.judgement.auxiliary is not None
    return record.judgement.auxiliary


def draw_histories(records: Sequence[TrialRecord], best: TrialRecord) -> matplotlib.figure.Figure:
    """Draws the objective of each trial over its epochs; the lines of stopped trials end early."""
    figure = matplotlib.figure.Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.subplots()
    for record in records:
        is_best = record.number == best.number
        axes.plot(
            range(1, len(record.history) + 1),
            record.history,
            color=_ORANGE if is_best else _GRAY if record.status == "stopped" else _BLUE,
            lw=2.0 if is_best else 0.9,
            alpha=1.0 if is_best else 0.6,
            marker=".",
            ms=3,
        )
    axes.set_xlabel("epoch", fontsize=8)
    axes.set_ylabel("objective", fontsize=8)
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    _plain(axes)
    return figure


def _plain(axes: Any) -> None:
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
