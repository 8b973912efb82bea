"""A scorer that hands out nothing before it has been compared with the plain path of its model.

The plain path takes seconds to load, so BLIP's is computed elsewhere while the scorer does its first images; other
families compute theirs by `PlainHere`.
"""

import logging
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch

from faceattr.errors import ModelError
from faceattr.vqa.scorer import HALF_TOLERANCE, Scorer, draw_noise, self_test

_log = logging.getLogger(__name__)


class Expected(Protocol):
    """The plain path's scores of `draw_noise`, float32 [2, total answers]."""

    def wait(self) -> np.ndarray:
        """Returns them as soon as they are there; they may have been kept from an earlier run.

        Raises:
            ModelError: they cannot be computed.
        """
        ...

    def compute(self) -> np.ndarray:
        """Returns them computed now. Raises ModelError as `wait`."""
        ...


class PlainHere:
    """A plain path that is built and asked in this process, when the answer is needed; see `Expected`.

    For families whose fast scorer has imported the plain path's packages anyway.
    """

    def __init__(self, build: Callable[[], Scorer]) -> None:
        """Args: builds the plain path's scorer, float32 on the CPU."""
        self._build = build

    def wait(self) -> np.ndarray:
        """See `Expected`."""
        plain = self._build()
        return plain.score(draw_noise(plain.image_size_px))

    def compute(self) -> np.ndarray:
        """See `Expected`."""
        return self.wait()


class ProvenScorer:
    """Scores as another scorer does; the first scores are returned once the self-test has passed.

    Attributes:
        image_size_px: side S of the square images that `score` takes.
        answer_slices: columns of each question in the scores.
        dtype: precision of the scorer.
    """

    def __init__(self, scorer: Scorer, expected: Expected, *, half_tolerance: float = HALF_TOLERANCE) -> None:
        """Args: the scorer; the plain path's scores; what `self_test` allows in half precision."""
        self.image_size_px = scorer.image_size_px
        self.answer_slices = scorer.answer_slices
        self.dtype: torch.dtype = scorer.dtype
        self._scorer = scorer
        self._expected: Expected | None = expected
        self._half_tolerance = half_tolerance

    def score(self, images: np.ndarray) -> np.ndarray:
        """Scores images; see `Scorer`.

        Raises:
            ModelError: scorer and plain path disagree, or the plain path cannot be computed.
        """
        scores = self._scorer.score(images)
        if self._expected is not None:
            self._prove(self._expected)
            self._expected = None
        return scores

    def _prove(self, expected: Expected) -> None:
        scores = expected.wait()
        try:
            difference = self_test(self._scorer, scores, half_tolerance=self._half_tolerance)
        except ModelError as error:
            # What was kept may be wrong in a way that its checks do not see. What is computed now decides.
            _log.warning("self_test_repeated reason=%s", error)
            difference = self_test(self._scorer, expected.compute(), half_tolerance=self._half_tolerance)
        _log.info("self_test_passed difference=%.1e dtype=%s", difference, self.dtype)
