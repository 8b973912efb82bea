"""The queue of a server: how many images and bytes it holds at a time; what does not fit is refused at once.

Refused, since a client that waits for a queue that only grows waits for nothing: it is told to come back.
"""

import contextlib
from collections.abc import Iterator

from faceattr.config.serving.requests import RequestLimitsConfig
from faceattr.jobs.serve.http.requests import RefusedRequestError

RETRY_AFTER = {"Retry-After": "1"}


class Admission:
    """Counts what the requests that are not answered yet hold.

    Attributes:
        images: images of these requests; a request whose body is still being read counts as one.
        num_bytes: bytes of their bodies.
    """

    def __init__(self, limits: RequestLimitsConfig) -> None:
        self.images = 0
        self.num_bytes = 0
        self._limits = limits

    @contextlib.contextmanager
    def admit(self, num_bytes: int) -> Iterator["QueuePlace"]:
        """Holds a place for a request until it is answered.

        Args:
            num_bytes: length of its body.

        Raises:
            RefusedRequestError: there is no room.
        """
        place = QueuePlace(self)
        try:
            place.take(images=1, num_bytes=num_bytes)
            yield place
        finally:
            place.leave()

    def reserve(self, images: int, num_bytes: int) -> None:
        """Adds to the counts. Raises RefusedRequestError if there is no room; nothing is added then."""
        limits = self._limits
        if self.images + images > limits.max_queue:
            what = f"{self.images} images are waiting, and {limits.max_queue} may (--limits.max-queue)"
        elif self.num_bytes + num_bytes > limits.max_queue_bytes:
            what = (
                f"{self.num_bytes:,} bytes are waiting, and {limits.max_queue_bytes:,} may (--limits.max-queue-bytes)"
            )
        else:
            self.images += images
            self.num_bytes += num_bytes
            return
        raise RefusedRequestError(429, f"busy: {what}; try again", RETRY_AFTER)


class QueuePlace:
    """What one request holds of the queue."""

    def __init__(self, queue: Admission) -> None:
        self._queue = queue
        self._images = 0
        self._num_bytes = 0

    def take(self, *, images: int = 0, num_bytes: int = 0) -> None:
        """Takes more room. Raises RefusedRequestError if there is none."""
        self._queue.reserve(images, num_bytes)
        self._images += images
        self._num_bytes += num_bytes

    def leave(self) -> None:
        """Gives all of it back."""
        self._queue.images -= self._images
        self._queue.num_bytes -= self._num_bytes
        self._images = self._num_bytes = 0
