import numpy as np
import pytest
import torch

from faceattr.errors import ModelError
from faceattr.vqa.proven import ProvenScorer

TRUE = np.tile(np.float32([-1.0, -2.0]), (2, 1))


class FixedScorer:
    """Says the same for every image."""

    image_size_px = 8
    answer_slices = (slice(0, 2),)
    dtype = torch.float32

    def __init__(self, scores):
        self.scores = np.float32(scores)
        self.scored = []

    def score(self, images):
        self.scored.append(len(images))
        return np.tile(self.scores, (len(images), 1))


class Expected:
    """What the plain path says: the answer that was kept, and the one that is computed."""

    def __init__(self, kept, computed=TRUE):
        self.kept, self.computed = kept, computed
        self.asked = []

    def wait(self):
        self.asked.append("wait")
        return self.kept

    def compute(self):
        self.asked.append("compute")
        return self.computed


IMAGES = np.zeros((5, 8, 8, 3), np.uint8)


def test_a_scorer_that_agrees_is_tested_once():
    scorer, expected = FixedScorer([-1.0, -2.0]), Expected(TRUE)
    proven = ProvenScorer(scorer, expected)
    assert (proven.image_size_px, proven.answer_slices, proven.dtype) == (8, (slice(0, 2),), torch.float32)
    assert expected.asked == []
    for _ in range(3):
        np.testing.assert_array_equal(proven.score(IMAGES), np.tile(np.float32([-1.0, -2.0]), (5, 1)))
    # The images come first, so that the plain path can be computed meanwhile.
    assert scorer.scored == [5, 2, 5, 5]
    assert expected.asked == ["wait"]


def test_a_scorer_that_disagrees_hands_out_nothing():
    proven = ProvenScorer(FixedScorer([-1.0, -2.1]), Expected(TRUE))
    for _ in range(2):
        with pytest.raises(ModelError, match="self-test: the log-likelihood of answer 1"):
            proven.score(IMAGES)


def test_a_wrong_answer_that_was_kept_condemns_no_scorer(caplog):
    expected = Expected(TRUE - 1)
    ProvenScorer(FixedScorer([-1.0, -2.0]), expected).score(IMAGES)
    assert expected.asked == ["wait", "compute"]
    assert "self_test_repeated" in caplog.text


def test_a_plain_path_that_fails_is_an_error():
    class Failing(Expected):
        def wait(self):
            raise ModelError("the plain path ended")

    proven = ProvenScorer(FixedScorer([-1.0, -2.0]), Failing(TRUE))
    for _ in range(2):
        with pytest.raises(ModelError, match="the plain path ended"):
            proven.score(IMAGES)
