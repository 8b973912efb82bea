"""The model of an actor, and the one thread that calls it.

Ray Data runs several calls of an actor at the same time, each with a block of its own (`pipeline.ACTOR_CALLS`). A call
takes its block out of Arrow, gives the pixels to the model's thread, waits, and makes the rows that the actor returns:

    call 1   take | score ............ | rows | take |          | score ............
    call 2          take |             | score ............ | rows | take |

So the model works on one block while the rows of the block before are made and the next block is fetched. The model
itself is built and called by one thread alone: what a library keeps per thread (current device, cuBLAS handles, OpenMP
teams) exists once, and the memory of the GPU holds one block.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import numpy as np
import pyarrow as pa

from faceattr.data.runs.commit import OK
from faceattr.jobs.cluster.actor_metrics import ActorMetrics
from faceattr.jobs.cluster.pixel_column import pixels_from_arrow

_Model = TypeVar("_Model")
_Values = TypeVar("_Values")


class ModelThread(Generic[_Model]):
    """A model that scores blocks in one thread, one after the other, for calls of an actor that run at the same time.

    Attributes:
        model: what `build` returned. Other threads may read its settings; only `score` computes with it.
    """

    def __init__(self, build: Callable[[], _Model], metrics: ActorMetrics | None = None) -> None:
        """Builds the model in its thread. Raises what `build` raises."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._metrics = metrics or ActorMetrics()
        self.model = self._thread.submit(build).result()

    def score(
        self, rows: pa.Table, size_px: int, compute: Callable[[np.ndarray], _Values]
    ) -> tuple[np.ndarray, _Values]:
        """Scores the rows of a block whose status is ok, and counts the block in the actor's metrics.

        Args:
            rows: a block with the columns `status` and `pixels`.
            size_px: side S of the pixels.
            compute: computes with the model, in the model's thread; takes uint8 pixels [m, S, S, 3].

        Returns:
            The places of the scored rows, int64 [m] in increasing order, and what `compute` returned for them.

        Raises:
            Whatever `compute` raises for this block; other blocks are not affected.
        """
        status = np.array(rows["status"].to_pylist(), object)
        good = np.flatnonzero(status == OK)
        pixels = pixels_from_arrow(rows["pixels"], size_px)
        if len(good) < len(rows):
            pixels = pixels[good]

        def timed() -> _Values:
            with self._metrics.computing(len(good)):
                return compute(pixels)

        values = self._thread.submit(timed).result()
        self._metrics.count(status)
        return good, values
