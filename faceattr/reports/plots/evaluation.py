"""Plots of an evaluation, from arrays: confusion matrices, curves, reliability, samples."""

import math
from collections.abc import Mapping, Sequence
from typing import assert_never

import matplotlib.axes
import matplotlib.figure
import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_curve

from faceattr.attributes import Attribute
from faceattr.evaluation.calibration.reliability import ReliabilityCurve, compute_reliability, read_confidence
from faceattr.evaluation.judged import JudgedRows
from faceattr.reports.plots.histogram import draw_bars
from faceattr.reports.plots.pictures import to_data_uri

_BLUE, _ORANGE, _GRAY = "#2f6db3", "#d9772b", "#9aa3ad"
# With more classes the matrix is drawn without numbers and names.
_MAX_NAMED = 16


def draw_score_histogram(
    counts: np.ndarray, attribute: Attribute, threshold: float, limits: tuple[float, float]
) -> str:
    """Draws the scores of a prediction run as a data URI, with yes and no in two colours."""
    figure = matplotlib.figure.Figure(figsize=(5.2, 1.9), layout="constrained")
    axes = figure.subplots()
    edges = np.linspace(*limits, len(counts) + 1)
    binary = attribute.is_yes_no
    colours = [_ORANGE if binary and edge >= threshold else _BLUE for edge in edges[:-1]]
    draw_bars(axes, counts, edges, colours)
    axes.set_xlim(*limits)
    axes.set_xlabel(_describe_score(attribute), fontsize=8)
    _plain(axes)
    return to_data_uri(figure)


def _describe_score(attribute: Attribute) -> str:
    match attribute.kind:
        case "binary":
            return "P(yes)"
        case "age":
            return "years"
        case "multiclass" | "identity":
            return "score of the chosen class"
    assert_never(attribute.kind)


def draw_confusions(judged: Sequence[JudgedRows]) -> matplotlib.figure.Figure:
    """Draws one confusion matrix per attribute with classes; for ages predicted over true years."""
    figure, axes = _grid(len(judged), 3.4, 3.1)
    for each, place in zip(judged, axes, strict=True):
        place.set_title(each.attribute.name, fontsize=10)
        match each.attribute.kind:
            case "age":
                _draw_ages(place, each)
            case "binary" | "multiclass" | "identity":
                _draw_confusion(place, each)
            case _:
                assert_never(each.attribute.kind)
    return figure


def _draw_confusion(axes: matplotlib.axes.Axes, judged: JudgedRows) -> None:
    names = judged.attribute.classes
    counts = confusion_matrix(judged.labels, judged.predictions, labels=range(len(names)))
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("predicted" if len(names) <= 4 else "predicted, in % of the true class", fontsize=8)
    axes.set_ylabel("true", fontsize=8)
    if len(names) > _MAX_NAMED:
        axes.set_xticks([])
        axes.set_yticks([])
        return
    axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > 2 else 0, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    for row, column in np.ndindex(counts.shape):
        dark = shares[row, column] > 0.55
        text = f"{counts[row, column]:,}" if len(names) <= 4 else f"{shares[row, column] * 100:.0f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if dark else "#1c2530")


def _draw_ages(axes: matplotlib.axes.Axes, judged: JudgedRows) -> None:
    low, high = judged.labels.T
    axes.scatter((low + np.minimum(high, 100) - 1) / 2, judged.predictions, s=6, alpha=0.25, color=_BLUE, lw=0)
    axes.plot([0, 100], [0, 100], color=_GRAY, lw=1)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    axes.set_xlabel("true age in years (ranges at their midpoint)", fontsize=8)
    axes.set_ylabel("predicted years", fontsize=8)
    _plain(axes)


def draw_curves(judged: Sequence[JudgedRows], thresholds: Mapping[str, float]) -> matplotlib.figure.Figure:
    """Draws precision over recall: one curve per binary attribute, with its threshold marked, or per class."""
    figure, axes = _grid(len(judged), 3.4, 2.9)
    for each, place in zip(judged, axes, strict=True):
        binary = each.attribute.is_yes_no
        names = ("",) if binary else each.attribute.classes
        for index, name in enumerate(names):
            mine = each.labels == (1 if binary else index)
            scores = each.scores if binary else each.scores[:, index]
            if not 0 < mine.sum() < len(mine):
                continue
            precision, recall, _ = precision_recall_curve(mine, scores)
            place.plot(recall, precision, lw=1.3, label=name, color=_BLUE if binary else None)
        if binary and (each.labels == 1).any() and (each.predictions == 1).any():
            right = ((each.labels == 1) & (each.predictions == 1)).sum()
            place.plot(right / (each.labels == 1).sum(), right / (each.predictions == 1).sum(), "o", color=_ORANGE)
            cut = thresholds.get(each.attribute.name, 0.5)
            place.set_title(f"{each.attribute.name}  (o: threshold {cut:.3f})", fontsize=9)
        else:
            place.set_title(each.attribute.name, fontsize=9)
        if 1 < len(names) <= _MAX_NAMED:
            place.legend(frameon=False, fontsize=6)
        place.set_xlim(0, 1.01)
        place.set_ylim(0, 1.02)
        place.set_xlabel("recall", fontsize=8)
        place.set_ylabel("precision", fontsize=8)
        _plain(place)
    return figure


def draw_reliability(before: Sequence[JudgedRows], after: Sequence[JudgedRows]) -> matplotlib.figure.Figure:
    """Draws the share of correct rows over the score, after calibration and, if it changed scores, before.

    A point is a bin of about equally many rows, its bar the 95 % interval of its share: if the bar meets the diagonal,
    the scores are consistent with calibration. Below, the number of rows by score.
    """
    figure, axes = _grid(len(after), 3.4, 3.1)
    for plain, calibrated, place in zip(before, after, axes, strict=True):
        place.plot([0, 1], [0, 1], color=_GRAY, lw=1)
        moved = not np.array_equal(plain.scores, calibrated.scores)
        if moved:
            _draw_bins(place, plain, _ORANGE, "before calibration")
        curve = _draw_bins(place, calibrated, _BLUE, "calibrated" if moved else "not calibrated")
        counts, edges = np.histogram(read_confidence(calibrated)[1], bins=40, range=(0, 1))
        heights = 0.14 * counts / counts.max()
        place.bar(edges[:-1], heights, width=np.diff(edges), align="edge", color=_GRAY, alpha=0.45, lw=0)
        binary = calibrated.attribute.is_yes_no
        few, many = int(curve.count.min()), int(curve.count.max())
        rows = f"{few:,}" if few == many else f"{few:,} to {many:,}"
        place.set_title(f"{calibrated.attribute.name}  ({len(curve.count)} bins of {rows} rows)", fontsize=9)
        place.set_xlabel("P(yes)" if binary else "score of the top class", fontsize=8)
        place.set_ylabel("share of positives" if binary else "share correct", fontsize=8)
        place.set_xlim(-0.02, 1.02)
        place.set_ylim(0, 1.03)
        place.legend(frameon=False, fontsize=7, loc="upper left")
        _plain(place)
    return figure


def _draw_bins(axes: matplotlib.axes.Axes, judged: JudgedRows, colour: str, label: str) -> ReliabilityCurve:
    curve = compute_reliability(*read_confidence(judged), judged.clusters)
    bars = np.stack([curve.share - curve.low, curve.high - curve.share])
    # A bin of a single cluster has no interval, and no bar.
    axes.errorbar(
        curve.score, curve.share, np.nan_to_num(np.maximum(bars, 0)), fmt="o", ms=3.5, lw=1, color=colour, label=label
    )
    return curve


def draw_samples(images: Sequence[np.ndarray], captions: Sequence[tuple[str, bool]]) -> matplotlib.figure.Figure:
    """Draws a grid of test images with true and predicted labels.

    Args:
        images: each uint8 [H, W, 3].
        captions: for each image its text, and whether all predictions are correct.
    """
    figure, axes = _grid(len(images), 2.1, 2.6, columns=6)
    for image, (text, right), place in zip(images, captions, axes, strict=True):
        place.imshow(image)
        place.set_xticks([])
        place.set_yticks([])
        place.set_xlabel(text, fontsize=6, color="#1c2530" if right else "#b3261e")
        for spine in place.spines.values():
            spine.set_color(_GRAY if right else "#b3261e")
    return figure


def _grid(
    num: int, width: float, height: float, *, columns: int = 3
) -> tuple[matplotlib.figure.Figure, list[matplotlib.axes.Axes]]:
    columns = min(columns, max(1, num))
    rows = max(1, math.ceil(num / columns))
    figure = matplotlib.figure.Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for unused in axes[num:]:
        unused.set_axis_off()
    return figure, axes[:num]


def _plain(axes: matplotlib.axes.Axes) -> None:
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
