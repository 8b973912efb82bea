"""Histogram of scores: how many images have a score in each range."""

from collections.abc import Sequence

import matplotlib.axes
import numpy as np

# With a bin this many times the median bin, the others would be a flat line.
_LOG_FROM = 20


def draw_bars(axes: matplotlib.axes.Axes, counts: np.ndarray, edges: np.ndarray, colours: str | Sequence[str]) -> None:
    """Draws the counts as bars; on a log scale, which the axis names, if most images are in a few bins.

    Most scores are near 0 or 1; a log scale shows the uncertain ones between.

    Args:
        axes: where to draw.
        counts: number of images, [bins].
        edges: ends of the bins in increasing order, [bins + 1].
        colours: of all bars, or of each.
    """
    axes.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=colours)
    is_log = counts.max(initial=0) > _LOG_FROM * max(1.0, float(np.median(counts)))
    if is_log:
        axes.set_yscale("symlog")
    axes.set_ylabel("images (log scale)" if is_log else "images", fontsize=8)
