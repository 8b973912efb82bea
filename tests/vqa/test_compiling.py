import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend

from faceattr.config import LabelConfig
from faceattr.errors import ConfigError
from faceattr.vqa.blip.network.attention import rank_backends
from faceattr.vqa.blip.scorer import BlipScorer
from faceattr.vqa.compiling import pays_to_compile
from faceattr.vqa.questions import VqaQuestion

QUESTIONS = (VqaQuestion("a hat ?", ("yes", "no")), VqaQuestion("what color hair ?", ("black", "light brown", "red")))
CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("mode", "num_images", "device", "expected"),
    [
        ("off", 10**9, GPU, False),
        ("on", 1, CPU, True),
        ("auto", 10**9, CPU, False),
        # 1 / 2,635 - 1 / 2,845 is 28.01 microseconds an image; 32 s are 1,142,000 of them.
        ("auto", 1_140_000, GPU, False),
        ("auto", 1_145_000, GPU, True),
        ("auto", 0, GPU, False),
    ],
)
def test_when_to_compile(mode, num_images, device, expected):
    assert pays_to_compile(mode, num_images=num_images, device=device) is expected


def test_the_plain_path_is_not_compiled():
    with pytest.raises(ConfigError, match="--compile: expected auto or off with --engine hf, found 'on'"):
        LabelConfig(images="a", output="b", engine="hf", compile="on")


@pytest.mark.long
def test_compiled_scores_are_the_same_for_full_and_short_batches(checkpoint, draw_images, tmp_path, monkeypatch):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    images = draw_images(7, checkpoint.preprocessing.size_px)
    expected = BlipScorer(checkpoint, QUESTIONS, device="cpu").score(images)
    compiled = BlipScorer(checkpoint, QUESTIONS, device="cpu", batch_size=4, compile_in=tmp_path)
    np.testing.assert_allclose(compiled.score(images), expected, atol=1e-4, rtol=0)
    assert any((tmp_path / "inductor").iterdir())
    # One graph: another number of images is filled up to the same shape.
    with torch.compiler.set_stance("fail_on_recompile"):
        np.testing.assert_allclose(compiled.score(images[:1]), expected[:1], atol=1e-4, rtol=0)


def test_attention_kernels_are_measured_and_the_unsupported_left_out(caplog):
    candidates = (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.MATH)
    with caplog.at_level("INFO"):
        ranked = rank_backends(device=CPU, dtype=torch.float32, shape=(2, 17, 2, 8), candidates=candidates)
    # The CPU has no kernel of cuDNN. What masks and old devices need is there in any case.
    assert set(ranked) == {SDPBackend.FLASH_ATTENTION, SDPBackend.MATH, SDPBackend.EFFICIENT_ATTENTION}
    assert set(ranked[:2]) == {SDPBackend.FLASH_ATTENTION, SDPBackend.MATH}
    (message,) = caplog.messages
    assert "flash_attention_ms=" in message
    assert "cudnn" not in message
