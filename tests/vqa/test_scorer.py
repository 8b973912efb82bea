import numpy as np
import pytest
import torch

from faceattr.errors import ModelError
from faceattr.vqa.blip.oracle.reference import HfScorer
from faceattr.vqa.blip.scorer import BlipScorer
from faceattr.vqa.questions import VqaQuestion
from faceattr.vqa.scorer import draw_noise, self_test

QUESTIONS = (VqaQuestion("a hat ?", ("yes", "no")), VqaQuestion("what color hair ?", ("black", "light brown", "red")))


class FixedScorer:
    """Says the same for every image: two answers to question 0, three to question 1."""

    image_size_px = 8
    answer_slices = (slice(0, 2), slice(2, 5))

    def __init__(self, scores, dtype=torch.float32):
        self.scores = np.asarray(scores, dtype=np.float32)
        self.dtype = dtype

    def score(self, images):
        assert images.dtype == np.uint8
        return np.tile(self.scores, (len(images), 1))


TRUE = np.tile(np.float32([-1.0, -2.0, -3.0, -4.0, -20.0]), (2, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_engines_agree(checkpoint, reference, dtype):
    scorer = BlipScorer(checkpoint, QUESTIONS, device="cpu", dtype=dtype)
    # On some vector units the two round alike, and do not differ at all.
    expected = HfScorer(reference, QUESTIONS, device="cpu").score(draw_noise(scorer.image_size_px))
    assert 0 <= self_test(scorer, expected) < 5e-3


def test_float32_is_measured_relative_to_the_log_likelihood():
    # -20 may be off by 0.02, -1 only by 0.001.
    assert self_test(FixedScorer([-1.0, -2.0, -3.0, -4.0, -20.019]), TRUE) == pytest.approx(9.5e-4, rel=1e-2)
    with pytest.raises(ModelError) as caught:
        self_test(FixedScorer([-1.0, -2.0, -3.0, -4.006, -20.0]), TRUE)
    assert str(caught.value) == (
        "self-test: the log-likelihood of answer 1 to question 1 on image 0 is -4.006, the reference engine says -4: "
        "off by 1.5e-03, allowed 1e-03. Run with `--engine hf` and report this"
    )


def test_half_precision_is_measured_in_probability():
    # exp(-1) = 0.3679 moves by 0.0037, its share 0.7311 by 0.0020.
    assert self_test(FixedScorer([-1.01, -2.0, -3.0, -4.0, -20.0], torch.float16), TRUE) == pytest.approx(3.66e-3, 1e-2)
    with pytest.raises(ModelError, match="probability of answer 0 to question 0"):
        self_test(FixedScorer([-1.02, -2.0, -3.0, -4.0, -20.0], torch.float16), TRUE)
    # exp(-3) = 0.0498 moves by 0.0049 and its share 0.7311 by 0.02.
    with pytest.raises(ModelError, match="share among the question's answers of answer"):
        self_test(FixedScorer([-1.0, -2.0, -2.906, -4.0, -20.0], torch.float16), TRUE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_nan_is_a_difference(dtype):
    with pytest.raises(ModelError, match="nan"):
        self_test(FixedScorer([-1.0, -2.0, np.nan, -4.0, -20.0], dtype), TRUE)
