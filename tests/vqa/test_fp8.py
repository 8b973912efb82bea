"""8-bit products of the vision tower, imitated on the CPU."""

import numpy as np
import pytest
import torch

from faceattr.demo.faces import build_face_rng, draw_face
from faceattr.errors import ConfigError, ModelError
from faceattr.vqa.blip.checkpoint import load_blip
from faceattr.vqa.blip.network.fp8 import FP8, Fp8Dense, check_fp8, round_rows
from faceattr.vqa.blip.network.layers import Dense
from faceattr.vqa.blip.preprocess import resize_rgb
from faceattr.vqa.blip.scorer import BlipScorer
from faceattr.vqa.question_files import load_question_set
from faceattr.vqa.scorer import draw_noise, self_test


def test_rows_are_rounded_by_hand():
    states = torch.tensor([[448.0, -17.0, 1.0], [0.0, 0.0, 0.0], [0.25, 0.125, -0.5]])
    rounded, scale = round_rows(states)
    assert rounded.dtype == FP8
    # The largest number of a row becomes 448. From 16 to 32 numbers are 2 apart; a tie goes to the even mantissa.
    torch.testing.assert_close(scale, torch.tensor([[1.0], [1e-12], [0.5 / 448]]))
    expected = torch.tensor([[448.0, -16.0, 1.0], [0.0, 0.0, 0.0], [224.0, 112.0, -448.0]])
    torch.testing.assert_close(rounded.float(), expected, atol=0, rtol=0)


def test_a_product_is_that_of_the_rounded_numbers():
    torch.manual_seed(0)
    weight, bias, states = torch.randn(6, 16), torch.randn(6), torch.randn(2, 3, 16)
    weight[2] *= 1000  # its row has a scale of its own
    product = Fp8Dense(Dense(weight, bias))(states)
    (left, left_scale), (right, right_scale) = round_rows(states), round_rows(weight)
    exact = (left.double() * left_scale) @ (right.double() * right_scale).T + bias
    torch.testing.assert_close(product.double(), exact, atol=1e-4, rtol=1e-5)
    true = states @ weight.T + bias
    assert 0 < ((product - true).abs().amax(dim=(0, 1)) / true.abs().amax(dim=(0, 1))).max() < 0.1


@pytest.mark.long
def test_labels_of_drawn_faces_are_as_good_as_in_float32():
    faces = [draw_face(build_face_rng(77, index)) for index in range(512)]
    images = np.stack([resize_rgb(face.image, 96) for face in faces])
    questions, checkpoint = load_question_set("clear_face"), load_blip("tiny")
    exact, rounded = (
        BlipScorer(checkpoint, questions.vqa_questions(), device="cpu", dtype=dtype) for dtype in (torch.float32, FP8)
    )
    assert rounded.dtype == FP8
    found = [questions.compute_labels(scorer.score(images)) for scorer in (exact, rounded)]
    for name in ("hat", "glasses", "facial_hair"):
        truth = np.array([face.labels[name] for face in faces]) == 1
        f1 = []
        for labels in found:
            said = labels[name].label == 1
            f1.append(2 * (truth & said).sum() / (truth.sum() + said.sum()))
        assert f1[0] > 0.95
        assert abs(f1[1] - f1[0]) < 0.005
        assert not np.array_equal(found[0][name].score, found[1][name].score)
    # Its own limit: a half-precision scorer as far off would be refused.
    expected = exact.score(draw_noise(96))
    assert 5e-3 < self_test(rounded, expected) < 0.1
    rounded.dtype = torch.float16
    with pytest.raises(ModelError, match="allowed 5e-03"):
        self_test(rounded, expected)


def test_the_cpu_is_refused():
    with pytest.raises(
        ConfigError, match=r"--precision fp8: expected a GPU of compute capability 8\.9 or above, found"
    ):
        check_fp8(torch.device("cpu"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_multiplies_as_the_cpu_imitates():
    device = torch.device("cuda")
    try:
        check_fp8(device)
    except ConfigError as error:
        pytest.skip(str(error))
    torch.manual_seed(0)
    dense, states = Dense(torch.randn(64, 128), torch.randn(64)), torch.randn(2, 17, 128)
    expected = Fp8Dense(dense)(states)
    product = Fp8Dense(dense).to(device)(states.to(device))
    # The GPU's product is rounded to bfloat16.
    torch.testing.assert_close(product.cpu(), expected, atol=0.1, rtol=1e-2)
