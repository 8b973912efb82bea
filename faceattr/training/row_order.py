"""In which order an epoch sees the training images, and which worker gets which. Numbers only, no image is touched.

    stretch     rows that lie together in a file, such as a row group
    window      stretches drawn at random, about `window_rows` rows in all, fewer of large images; its rows are mixed
    position    place of a row in the epoch; batch b is made of the positions [b * B, (b + 1) * B)

The order follows from (seed, epoch) and the data alone, so that any number of workers see the same batches and any
epoch can be made again. Memory does not grow with the number of rows, only with that of stretches.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]

# With fewer stretches a worker in a window, shares of a batch would be too uneven if whole stretches were dealt.
_STRETCHES_PER_RANK = 16
# A window's images are in memory together, encoded, in the task that reads it; two tasks a worker do. At the default of
# 8,192 rows this begins to count where an image has 32 KiB on average: 448 px JPEGs of faces have less.
WINDOW_BYTES = 256 * 2**20


@dataclass(frozen=True, kw_only=True)
class Window:
    """Some stretches of an epoch.

    Attributes:
        number: of the window, from 0.
        first_position: of its rows in the epoch.
        stretches: numbers of its stretches.
    """

    number: int
    first_position: int
    stretches: Indices


def cut_windows(
    sizes: Indices,
    *,
    seed: int,
    epoch: int,
    window_rows: int,
    num_bytes: Indices | None = None,
    window_bytes: int = WINDOW_BYTES,
) -> list[Window]:
    """The windows of an epoch: every stretch lies in one of them.

    Args:
        sizes: int64 [stretches], rows of each.
        seed: of the run.
        epoch: counted from 0.
        window_rows: rows that a window has at most, unless a single stretch has more.
        num_bytes: int64 [stretches], size of the encoded images of each, from the footers of the packed files; None
            where it was not kept, and only rows count.
        window_bytes: that a window's images have at most, unless those of a single stretch have more.
    """
    order = _generator(seed, epoch).permutation(len(sizes))
    ends = np.cumsum(sizes[order])
    ends_bytes = np.cumsum(num_bytes[order] if num_bytes is not None else np.zeros(len(sizes), np.int64))
    windows: list[Window] = []
    start = 0
    while start < len(order):
        before = int(ends[start - 1]) if start else 0
        before_bytes = int(ends_bytes[start - 1]) if start else 0
        by_rows = int(np.searchsorted(ends, before + window_rows, side="right"))
        by_bytes = int(np.searchsorted(ends_bytes, before_bytes + window_bytes, side="right"))
        stop = max(start + 1, min(by_rows, by_bytes))
        windows.append(Window(number=len(windows), first_position=before, stretches=order[start:stop]))
        start = stop
    return windows


def order_rows(
    sizes: Indices, *, seed: int, epoch: int, window: int, weights: npt.NDArray[np.float64] | None = None
) -> tuple[Indices, Indices]:
    """The rows of a window, in order: the rows of each stretch are permuted and spread evenly over the window.

    Args:
        sizes: int64 [M], rows of the window's stretches.
        seed: of the run.
        epoch: counted from 0.
        window: its number.
        weights: float64 [n], of the rows, stretch after stretch. As many rows are drawn as there are, each as often as
            its weight says, to within one (systematic sampling). By default every row comes once.

    Returns:
        (index of the stretch in the window, row in the stretch), int64 [n] each.
    """
    generator = _generator(seed, epoch, window)
    num_rows = int(sizes.sum())
    starts = np.cumsum(sizes) - sizes
    if weights is None:
        drawn = np.arange(num_rows)
    else:
        points = (np.arange(num_rows) + generator.random()) * (weights.sum() / num_rows)
        drawn = np.minimum(np.searchsorted(np.cumsum(weights), points, side="right"), num_rows - 1)
    drawn = generator.permutation(drawn)
    stretch = np.searchsorted(starts, drawn, side="right") - 1
    # Stretches without rows start where the next one does.
    counts = np.bincount(stretch, minlength=len(sizes))
    by_stretch = np.argsort(stretch, kind="stable")
    turn = np.empty(num_rows, np.int64)
    turn[by_stretch] = np.arange(num_rows) - np.repeat(np.cumsum(counts) - counts, counts)
    place = (turn + (stretch + 0.5) / len(sizes)) / counts[stretch]
    order = np.argsort(place, kind="stable")
    return stretch[order], (drawn - starts[stretch])[order]


def deal_rows(stretch: Indices, *, num_stretches: int, rank: int, world_size: int) -> npt.NDArray[np.bool_]:
    """Which rows of a window are a rank's.

    Whole stretches are dealt where there are many, so that a rank reads no more than it uses. Else rows are dealt one
    by one, and every rank reads all stretches. Either way a rank gets about its share of every batch.

    Args:
        stretch: int64 [n], stretch of each row in order, from `order_rows`.
        num_stretches: of the window.
        rank: of the worker.
        world_size: number of workers.

    Returns:
        bool [n].
    """
    dealt = stretch if num_stretches >= _STRETCHES_PER_RANK * world_size else np.arange(len(stretch))
    return dealt % world_size == rank


def _generator(*seeds: int) -> np.random.Generator:
    return np.random.default_rng(seeds)
