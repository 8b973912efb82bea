"""Scores are finite, or the checkpoint is refused."""

import numpy as np
import pytest
import torch

from faceattr.errors import ModelError
from faceattr.vqa.batching import HalvingBatcher
from faceattr.vqa.finite import FiniteBatcher
from faceattr.vqa.staging import InPlace

IMAGES = np.array([1.0, -1.0, 4.0], np.float32)


def batcher(function):
    return HalvingBatcher(function, 2, staging=InPlace())


def half(images):
    """Not finite for negative ones."""
    return images.sqrt()[:, None]


def exact(images):
    return images.abs().sqrt()[:, None] * 10


def test_only_what_overflows_is_computed_again(caplog):
    scores = FiniteBatcher(batcher(half), lambda: batcher(exact), name="m")
    np.testing.assert_array_equal(scores(IMAGES), [[1], [10], [2]])
    assert "half_precision_overflow images=1" in caplog.text
    assert scores.batch_size == 2


@pytest.mark.parametrize("build_exact", [None, lambda: batcher(lambda images: torch.full((len(images), 1), torch.inf))])
def test_a_checkpoint_that_gives_no_numbers_in_float32_is_refused(build_exact):
    with pytest.raises(ModelError, match=r"^m: the scores of 1 images are not finite in float32"):
        FiniteBatcher(batcher(half), build_exact, name="m")(IMAGES)
