"""What a replica returns for an image, and how it is asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from faceattr.jobs.serve.http.requests import Upload


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The answer for one image.

    Attributes:
        values: JSON values, as a line of `faceattr predict --json`.
        reason: why the image cannot be used, in one word; None if it was predicted.
        batch_images: images of its batch, at the first image of a batch; 0 at the others.
        batch_s: seconds that the batch took, at its first image.
    """

    values: Mapping[str, Any]
    reason: str | None = None
    batch_images: int = 0
    batch_s: float = 0.0


class UploadScorer(Protocol):
    """The replicas, as the site sees them."""

    async def score(self, upload: Upload, *, confidence: bool) -> Scored:
        """Predicts one image.

        Raises:
            RefusedRequestError: the model cannot answer, now or at all.
        """

    async def is_ready(self) -> bool:
        """Whether an image could be predicted now."""
