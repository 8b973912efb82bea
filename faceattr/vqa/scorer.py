"""The interface of every engine that scores answers, and the check that two engines agree."""

from typing import Protocol

import numpy as np
import torch

from faceattr.errors import ModelError

# Relative to the log-likelihood, float32.
_LOG_TOLERANCE = 1e-3
# Absolute difference of probabilities. In 8 bits the tiny model is off by 0.02 on these images; an error in the
# arithmetic, such as a scale that is left out, moves probabilities by far more than the limit.
HALF_TOLERANCE = 5e-3
_FP8_TOLERANCE = 0.1


class Scorer(Protocol):
    """Scores all answers of all questions for images.

    Attributes:
        image_size_px: side S of the square images that `score` takes.
        answer_slices: columns of each question in the scores.
        dtype: precision of the model.
    """

    image_size_px: int
    answer_slices: tuple[slice, ...]
    dtype: torch.dtype

    def score(self, images: np.ndarray) -> np.ndarray:
        """uint8 [n, S, S, 3] -> float32 [n, total answers], natural logs of p(whole answer), [SEP] included."""
        ...


def check_images(images: np.ndarray, size_px: int) -> None:
    """Raises ValueError unless `images` is uint8 [n, size_px, size_px, 3]."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (size_px, size_px, 3):
        raise ValueError(
            f"expected uint8 images [n, {size_px}, {size_px}, 3], found {images.dtype} {list(images.shape)}; "
            "resize them with the engine's own `resize` (`faceattr.vqa.engines`)"
        )


def draw_noise(size_px: int) -> np.ndarray:
    """Returns the fixed images that engines are compared on, uint8 [2, size_px, size_px, 3]."""
    return np.random.default_rng(0).integers(0, 256, size=(2, size_px, size_px, 3), dtype=np.uint8)


def self_test(scorer: Scorer, expected: np.ndarray, *, half_tolerance: float = HALF_TOLERANCE) -> float:
    """Compares a scorer with the plain path of its model: all questions and answers on `draw_noise`.

    In float32, log-likelihoods must agree to 1e-3 of their size. In half precision, the probabilities that labels are
    computed from must agree to 5e-3, with 8-bit products to 0.1: each answer's own, and its share among the answers of
    its question.

    Args:
        scorer: scorer to test.
        expected: float [2, total answers], the plain path's scores of `draw_noise`, computed in float32.
        half_tolerance: what is allowed in half precision, for families whose probabilities react more.

    Returns:
        The largest difference found.

    Raises:
        ModelError: they disagree; the text has the numbers of the worst answer.
    """
    found = scorer.score(draw_noise(scorer.image_size_px)).astype(np.float64)
    expected = expected.astype(np.float64)
    slices = scorer.answer_slices
    if scorer.dtype == torch.float32:
        scale = np.maximum(1.0, np.abs(expected))
        return _compare("log-likelihood", found, expected, slices, tolerance=_LOG_TOLERANCE, scale=scale)
    tolerance = _FP8_TOLERANCE if scorer.dtype == torch.float8_e4m3fn else half_tolerance
    shares = _shares(found, slices), _shares(expected, slices)
    return max(
        _compare("probability", np.exp(found), np.exp(expected), slices, tolerance=tolerance),
        _compare("share among the question's answers", *shares, slices, tolerance=tolerance),
    )


def _compare(
    quantity: str,
    found: np.ndarray,
    expected: np.ndarray,
    answer_slices: tuple[slice, ...],
    *,
    tolerance: float,
    scale: np.ndarray | float = 1.0,
) -> float:
    """Returns the largest |found - expected| / scale. Raises ModelError if it exceeds the tolerance."""
    # A NaN counts as the largest difference.
    differences = np.nan_to_num(np.abs(found - expected) / scale, nan=np.inf)
    image, column = np.unravel_index(differences.argmax(), differences.shape)
    worst = float(differences[image, column])
    if worst > tolerance:
        question = next(i for i, columns in enumerate(answer_slices) if column < columns.stop)
        answer = column - answer_slices[question].start
        raise ModelError(
            f"self-test: the {quantity} of answer {answer} to question {question} on image {image} is "
            f"{found[image, column]:.6g}, the reference engine says {expected[image, column]:.6g}: off by {worst:.1e}, "
            f"allowed {tolerance:.0e}. Run with `--engine hf` and report this"
        )
    return worst


def _shares(log_likelihoods: np.ndarray, answer_slices: tuple[slice, ...]) -> np.ndarray:
    """Returns the softmax over the answers of each question."""
    shares = np.empty_like(log_likelihoods)
    for columns in answer_slices:
        logs = log_likelihoods[:, columns]
        weights = np.exp(logs - logs.max(axis=1, keepdims=True))
        shares[:, columns] = weights / weights.sum(axis=1, keepdims=True)
    return shares
