"""Limits of the requests that a served model takes."""

from dataclasses import dataclass

from faceattr.config.checks import check, flag_name


@dataclass(frozen=True, kw_only=True)
class RequestLimitsConfig:
    """Limits of requests. One that exceeds a limit is refused, with the limit's flag in the answer."""

    max_bytes: int = 64 * 2**20
    """Largest body of a request, in bytes; a larger one is answered with 413."""
    max_images: int = 64
    """Most images in one request; one with more is answered with 413."""
    max_queue: int = 256
    """Most images that wait or are being predicted, of all requests together. What does not fit is answered with
    429."""
    max_queue_bytes: int = 512 * 2**20
    """Most bytes of the bodies of all requests that are not answered yet; as --limits.max-queue."""
    timeout_s: float = 30.0
    """Longest time for a request, in seconds: 408 if its body has not arrived by then, 503 if there is no answer."""

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_images", "timeout_s"):
            value = getattr(self, name)
            check(value > 0, f"limits.{flag_name(name)}", value, "more than 0")
        # Otherwise a request that is allowed would never find room.
        for name, least in (("max_queue", self.max_images), ("max_queue_bytes", self.max_bytes)):
            value = getattr(self, name)
            flag = "--limits.max-images" if name == "max_queue" else "--limits.max-bytes"
            check(value >= least, f"limits.{flag_name(name)}", value, f"at least {flag} ({least})")
