"""The metrics of every model actor: images processed and rejected, seconds spent computing and waiting."""

import contextlib
import time
from collections.abc import Iterator

import numpy as np

from faceattr.data.runs.commit import OK
from faceattr.jobs.cluster.metrics import counter, histogram


class ActorMetrics:
    """The Prometheus metrics of one actor; created in the actor's process."""

    def __init__(self) -> None:
        self._labelled = counter("faceattr_images_labelled_total")
        self._rejected = counter("faceattr_images_rejected_total")
        self._seconds = histogram("faceattr_inference_seconds")
        self._batch = histogram("faceattr_block_images")
        self._waited = counter("faceattr_actor_wait_seconds_total")
        self._idle_since: float | None = None

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Times the work on a block; the time between two blocks counts as waiting."""
        if self._idle_since is not None:
            self._waited.inc(time.perf_counter() - self._idle_since)
        try:
            yield
        finally:
            self._idle_since = time.perf_counter()

    def count(self, status: np.ndarray, num_good: int, seconds: float) -> None:
        """Counts a block: the statuses of its rows, how many were scored, and how many seconds that took."""
        if num_good:
            self._labelled.inc(num_good)
            self._seconds.observe(seconds)
            self._batch.observe(num_good)
        for reason, count in zip(*np.unique(status[status != OK].astype(str), return_counts=True), strict=True):
            self._rejected.inc(int(count), tags={"reason": str(reason)})
