"""Numbers that are not finite are never published as answers."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image

from faceattr.cli import main as faceattr
from faceattr.errors import ModelError
from faceattr.inference.export import export_onnx
from faceattr.inference.predictor import Predictor


def pixels_for(model, num: int) -> np.ndarray:
    size = model.backbone.preprocessing.size_px
    return np.random.default_rng(0).integers(0, 256, (num, size, size, 3), np.uint8)


def with_head(model, name: str, factor: float):
    """A copy whose last layer of one head is multiplied."""
    changed = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in changed.head(name).parameters():
            parameter.mul_(factor)
    return changed


@pytest.mark.parametrize("name", ["hat", "age", "age_group", "person"])
def test_float16_that_overflows_gives_the_answers_of_float32(model, name):
    large = with_head(model, name, 1e6)  # beyond float16, whose largest number is 65,504
    pixels = pixels_for(model, 3)
    exact = Predictor(large, device="cpu").score(pixels)
    found = Predictor(large, device="cpu", precision="float16").score(pixels)
    for attribute, values in exact.items():
        np.testing.assert_allclose(found[attribute], values, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("read", ["score", "outputs", "kept_outputs", "predict_pixels"])
def test_weights_that_are_no_numbers_stop_every_way_of_asking(model, precision, read):
    broken = with_head(model, "glasses", float("nan"))
    with pytest.raises(ModelError, match="2 of a batch's images are not finite in float32"):
        getattr(Predictor(broken, device="cpu", precision=precision), read)(pixels_for(model, 2))


@pytest.mark.long
def test_a_model_that_gives_no_numbers_is_not_exported(model, tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(ModelError, match=r"glasses_score is not finite in float32.*no file was written"):
        export_onnx(with_head(model, "glasses", float("nan")), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_the_command_says_so_in_one_line_and_prints_no_answer(model, tmp_path, capsys):
    with_head(model, "hat", float("nan")).save_pretrained(tmp_path / "model")
    (tmp_path / "in").mkdir()
    Image.fromarray(np.full((40, 30, 3), 120, np.uint8)).save(tmp_path / "in" / "a.png")
    folder = ["--model", str(tmp_path / "model"), "--device", "cpu"]
    assert faceattr(["predict", *folder, "--input", str(tmp_path / "in"), "--json"]) == 2  # of a ModelError
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert "not finite in float32" in shown.err
    assert len(shown.err.splitlines()) == 1
