"""Scores that are always finite: images on which half precision overflows are computed again in float32."""

import logging
from collections.abc import Callable

import numpy as np

from faceattr.errors import ModelError
from faceattr.vqa.batching import HalvingBatcher

_log = logging.getLogger(__name__)


class FiniteBatcher:
    """Computes scores batch by batch, again in float32 where they are not finite.

    Args:
        batcher: computes the scores in the scorer's precision.
        build_exact: builds the same computation in float32, on the first overflow; None if it is in float32 already.
        name: the checkpoint, for errors.
    """

    def __init__(
        self, batcher: HalvingBatcher, build_exact: Callable[[], HalvingBatcher] | None, *, name: object
    ) -> None:
        self._batcher = batcher
        self._build_exact = build_exact
        self._exact: HalvingBatcher | None = None
        self._name = name

    @property
    def batch_size(self) -> int:
        """Images per forward pass, after any halving."""
        return self._batcher.batch_size

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 [n, S, S, 3], n >= 1 -> finite float32 [n, total answers].

        Raises:
            ModelError: the model computes non-finite numbers in float32, or one image does not fit into memory.
        """
        scores = self._batcher(images)
        overflown = ~np.isfinite(scores).all(axis=1)
        if overflown.any():
            scores[overflown] = self._score_exactly(images[overflown])
        return scores

    def _score_exactly(self, images: np.ndarray) -> np.ndarray:
        if self._build_exact is not None:
            _log.warning("half_precision_overflow images=%d recomputed_in=float32", len(images))
            if self._exact is None:
                self._exact = self._build_exact()
            scores = self._exact(images)
            if np.isfinite(scores).all():
                return scores
        raise ModelError(
            f"{self._name}: the scores of {len(images)} images are not finite in float32; "
            "the checkpoint's weights are broken"
        )
