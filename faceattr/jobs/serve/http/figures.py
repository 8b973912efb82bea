"""What a server counts of itself, in the text format of Prometheus (`prometheus_client`, which Ray brings along)."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class ServeFigures:
    """The figures of one server.

    Attributes:
        requests: requests by path and HTTP status.
        seconds: from a request's headers to its answer, of requests for predictions.
        images: images that got predictions.
        rejected: images that got a reason in place of predictions, by reason.
        batches: images of each forward pass, counted by its first image's answer.
        batch_seconds: time for decoding and predicting a batch.
        queue: images that wait or are being predicted.
        retries: images that were sent again because their replica was lost.
    """

    def __init__(self) -> None:
        own = self._registry = CollectorRegistry()
        stem = "faceattr_serve"
        self.requests = Counter(
            f"{stem}_requests", "Requests by path and HTTP status.", ["path", "status"], registry=own
        )
        self.seconds = Histogram(
            f"{stem}_request_seconds", "Seconds of a POST /predict.", buckets=_SECONDS, registry=own
        )
        self.images = Counter(f"{stem}_images", "Images that got predictions.", registry=own)
        self.rejected = Counter(
            f"{stem}_rejected_images", "Images that got a reason instead.", ["reason"], registry=own
        )
        self.batches = Histogram(f"{stem}_batch_images", "Images in a batch.", buckets=_IMAGES, registry=own)
        self.batch_seconds = Histogram(f"{stem}_batch_seconds", "Seconds of a batch.", buckets=_SECONDS, registry=own)
        self.queue = Gauge(f"{stem}_queue_images", "Images that wait or are being predicted.", registry=own)
        self.retries = Counter(f"{stem}_retried_images", "Images sent again after a replica was lost.", registry=own)

    def encode(self) -> bytes:
        """Returns the figures as Prometheus reads them."""
        return generate_latest(self._registry)
