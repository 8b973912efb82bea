"""The metrics of every model actor: images processed and rejected, seconds its model computes and waits."""

import contextlib
import time
from collections.abc import Callable, Iterator

import numpy as np

from faceattr.data.runs.commit import OK
from faceattr.jobs.cluster.metrics import Counter, Histogram, counter, histogram


class ActorMetrics:
    """The Prometheus metrics of one actor; created in the actor's process.

    Args:
        make_counter: creates the counter of a name.
        make_histogram: creates the histogram of a name.
    """

    def __init__(
        self,
        make_counter: Callable[[str], Counter] = counter,
        make_histogram: Callable[[str], Histogram] = histogram,
    ) -> None:
        self._labelled = make_counter("faceattr_images_labelled_total")
        self._rejected = make_counter("faceattr_images_rejected_total")
        self._seconds = make_histogram("faceattr_inference_seconds")
        self._batch = make_histogram("faceattr_block_images")
        self._waited = make_counter("faceattr_actor_wait_seconds_total")
        self._idle_since: float | None = None

    @contextlib.contextmanager
    def computing(self, num_images: int) -> Iterator[None]:
        """Times the model's work on a block; the time since the block before counts as waiting.

        Called by the model's thread alone, so computing and waiting add up to the time that passes, however many blocks
        the actor prepares or finishes meanwhile.
        """
        started = time.perf_counter()
        if self._idle_since is not None:
            self._waited.inc(started - self._idle_since)
        try:
            yield
        finally:
            self._idle_since = time.perf_counter()
        if num_images:
            self._seconds.observe(self._idle_since - started)

    def count(self, status: np.ndarray) -> None:
        """Counts the rows of a scored block by their statuses. Calls at the same time are fine."""
        reasons, counts = np.unique(status[status != OK].astype(str), return_counts=True)
        num_good = len(status) - int(counts.sum())
        if num_good:
            self._labelled.inc(num_good)
            self._batch.observe(num_good)
        for reason, count in zip(reasons, counts, strict=True):
            self._rejected.inc(int(count), tags={"reason": str(reason)})
