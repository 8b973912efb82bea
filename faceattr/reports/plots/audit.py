"""Plots of an audit: the scores of a table with its thresholds, and precision and recall by threshold."""

import matplotlib.axes
import matplotlib.figure
import numpy as np

from faceattr.audit.result import Curve
from faceattr.reports.plots.histogram import draw_bars

_BLUE, _ORANGE, _GRAY = "#2f6db3", "#d9772b", "#9aa3ad"
_BINS = 50


def draw_scores(
    low: np.ndarray, high: np.ndarray, num_rows: np.ndarray, thresholds: dict[str, float]
) -> matplotlib.figure.Figure:
    """Draws the histogram of a table's scores.

    Args:
        low: float64 [bins], lower ends of ranges of scores.
        high: float64 [bins], their upper ends.
        num_rows: int64 [bins].
        thresholds: word -> score that is marked.
    """
    figure = matplotlib.figure.Figure(figsize=(5.6, 2.4), layout="constrained")
    axes = figure.subplots()
    counts, edges = np.histogram((low + high) / 2, bins=_BINS, range=(0, 1), weights=num_rows)
    draw_bars(axes, counts, edges, _GRAY)
    axes.set_xlabel("score", fontsize=8)
    _mark(axes, thresholds)
    return figure


def draw_curve(curve: Curve, thresholds: dict[str, float]) -> matplotlib.figure.Figure:
    """Draws precision and recall over the threshold, with their 95 % intervals as bands."""
    figure = matplotlib.figure.Figure(figsize=(5.6, 2.8), layout="constrained")
    axes = figure.subplots()
    for name, values, colour in (("precision", curve.precision, _BLUE), ("recall", curve.recall, _ORANGE)):
        axes.fill_between(curve.thresholds, values[:, 1], values[:, 2], color=colour, alpha=0.2, linewidth=0)
        axes.plot(curve.thresholds, values[:, 0], color=colour, label=name)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("threshold", fontsize=8)
    axes.legend(loc="lower center", fontsize=8, frameon=False)
    _mark(axes, thresholds)
    return figure


def _mark(axes: matplotlib.axes.Axes, thresholds: dict[str, float]) -> None:
    for (word, threshold), style in zip(thresholds.items(), ("--", "-"), strict=False):
        axes.axvline(threshold, color="#1c2530", linestyle=style, linewidth=1)
        axes.annotate(
            word,
            (threshold, 0.98),
            xycoords=("data", "axes fraction"),
            xytext=(3, -8),
            textcoords="offset points",
            fontsize=7,
        )
    axes.set_xlim(0, 1)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
