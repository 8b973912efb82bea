"""Order in which an epoch visits the training images, and their distribution to workers; only numbers, no images.

    stretch     consecutive rows of a file, such as a row group
    window      random stretches with about `window_rows` rows, fewer for large images; its rows are shuffled
    position    index of a row in the epoch; batch b consists of the positions [b * B, (b + 1) * B)

The order depends only on (seed, epoch) and the data, so that any number of workers produces the same batches and any
epoch can be repeated. Memory grows with the number of stretches, not with the number of rows.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]

# With fewer stretches per worker in a window, dealing whole stretches would make the shares of a batch too uneven.
_STRETCHES_PER_RANK = 16
# A window's encoded images are in memory at once in the task that reads it; each worker has two such tasks. At the
# default of 8,192 rows this limit applies from 32 KiB per image on average; 448 px JPEGs of faces are smaller.
WINDOW_BYTES = 256 * 2**20


@dataclass(frozen=True, kw_only=True)
class Window:
    """Stretches of an epoch that are shuffled together.

    Attributes:
        number: index of the window, from 0.
        first_position: position of its first row in the epoch.
        stretches: indices of its stretches.
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
    """Cuts an epoch into windows; every stretch belongs to exactly one of them.

    Args:
        sizes: int64 [stretches], number of rows.
        seed: seed of the run.
        epoch: which epoch, from 0.
        window_rows: maximum number of rows in a window, unless a single stretch has more.
        num_bytes: int64 [stretches], size of the encoded images, from the footers of the packed files; None if it was
            not stored, in which case only rows are limited.
        window_bytes: maximum size of a window's images, unless a single stretch exceeds it.
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
    """Orders the rows of a window: each stretch's rows are permuted and spread evenly over the window.

    Args:
        sizes: int64 [M], number of rows of the window's stretches.
        seed: seed of the run.
        epoch: which epoch, from 0.
        window: index of the window.
        weights: float64 [n], weight of every row, stretch after stretch. As many rows are drawn as there are, each in
            proportion to its weight, to within one draw (systematic sampling). By default every row is drawn once.

    Returns:
        (index of the stretch in the window, index of the row in the stretch), int64 [n] each.
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
    # Empty stretches start where the next one starts.
    counts = np.bincount(stretch, minlength=len(sizes))
    by_stretch = np.argsort(stretch, kind="stable")
    turn = np.empty(num_rows, np.int64)
    turn[by_stretch] = np.arange(num_rows) - np.repeat(np.cumsum(counts) - counts, counts)
    place = (turn + (stretch + 0.5) / len(sizes)) / counts[stretch]
    order = np.argsort(place, kind="stable")
    return stretch[order], (drawn - starts[stretch])[order]


def deal_rows(stretch: Indices, *, num_stretches: int, rank: int, world_size: int) -> npt.NDArray[np.bool_]:
    """Selects the rows of a window that belong to a rank.

    If there are many stretches, whole stretches are dealt, so that a rank reads no more than it uses. Otherwise rows
    are dealt one by one, and every rank reads all stretches. Either way all ranks get similar shares of every batch.

    Args:
        stretch: int64 [n], stretch of each row in order, from `order_rows`.
        num_stretches: number of stretches in the window.
        rank: rank of the worker.
        world_size: number of workers.

    Returns:
        bool [n].
    """
    dealt = stretch if num_stretches >= _STRETCHES_PER_RANK * world_size else np.arange(len(stretch))
    return dealt % world_size == rank


def _generator(*seeds: int) -> np.random.Generator:
    return np.random.default_rng(seeds)
