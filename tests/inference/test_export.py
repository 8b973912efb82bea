"""ONNX files: fed and read as their JSON says, against PyTorch."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from faceattr.errors import ConfigError, ModelError
from faceattr.inference import export
from faceattr.inference.export import export_onnx
from faceattr.inference.predictor import Predictor
from faceattr.models.resize import resize_for
from faceattr.models.transforms import Normalise

onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("input_type", ["uint8", "float"])
def test_the_file_gives_what_the_predictor_gives(model, photos, tmp_path, input_type):
    path = tmp_path / "m.onnx"
    differences = export_onnx(model, path, input_type=input_type)
    assert max(differences.values()) < 1e-3
    assert sorted(each.name for each in tmp_path.iterdir()) == ["m.json", "m.onnx"]
    description = json.loads((tmp_path / "m.json").read_text())

    preprocessing = model.backbone.preprocessing
    pixels = np.stack(
        [resize_for(np.array(Image.open(photos / name)), preprocessing) for name in ("a.JPG", "c.png", "e.jpeg")]
    )
    given = pixels
    if input_type == "float":
        given = Normalise(preprocessing)(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy()
    session = onnxruntime.InferenceSession(str(path))
    (taken,) = session.get_inputs()
    assert (taken.name, taken.shape[1:]) == (description["input"]["name"], description["input"]["shape"][1:])
    names = [each.name for each in session.get_outputs()]
    found = dict(zip(names, session.run(names, {taken.name: given}), strict=True))

    predictor = Predictor(model, device="cpu")
    scores = predictor.score(pixels)
    for name, score in scores.items():
        key = name if name == "age" else f"{name}_score"
        np.testing.assert_allclose(found[key], score, rtol=1e-4, atol=1e-4)
    for place, prediction in enumerate(predictor.predict_pixels(pixels)):
        for name, each in prediction.attributes.items():
            if name == "age":
                continue
            classes = next((a["classes"] for a in description["attributes"] if a["name"] == name), ["no", "yes"])
            assert classes[found[name][place]] == each.label

    ages = next(each for each in description["attributes"] if each["name"] == "age_group")
    assert ages["classes"][:3] == ["0-2", "3-9", "10-19"]
    hat = next(each for each in description["attributes"] if each["name"] == "hat")
    assert (hat["threshold"], hat["calibration"]["temperature"]) == (0.4, 2.0)
    held = json.loads(session.get_modelmeta().custom_metadata_map["faceattr"])
    assert held == description


def test_nothing_is_overwritten(model, tmp_path):
    (tmp_path / "m.json").write_text("{}")
    with pytest.raises(ConfigError, match="is there already"):
        export_onnx(model, tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match=r"ends in \.onnx"):
        export_onnx(model, tmp_path / "m.pt")


@pytest.mark.parametrize("opset", [13, 999])
def test_an_opset_that_cannot_hold_the_model(model, tmp_path, opset):
    with pytest.raises(ConfigError, match=rf"--opset {opset}") as error:
        export_onnx(model, tmp_path / "m.onnx", opset=opset)
    assert "18" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_other_numbers_are_refused_and_leave_no_file(model, tmp_path, monkeypatch):
    """A file whose weights are not the model's: a bias is moved between writing and checking."""
    write = export._write_graph

    def write_and_change(exported, path, opset, description):
        write(exported, path, opset, description)
        with torch.no_grad():
            model.head("glasses").bias += 1.0

    monkeypatch.setattr(export, "_write_graph", write_and_change)
    try:
        with pytest.raises(ModelError, match="onnxruntime's glasses_score is not PyTorch's"):
            export_onnx(model, tmp_path / "m.onnx")
    finally:
        with torch.no_grad():
            model.head("glasses").bias -= 1.0
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_the_error_says_how_to_install_it(model, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(ConfigError, match=r"no_such_package; install them: pip install 'faceattr\[onnx\]'"):
        export_onnx(model, tmp_path / "m.onnx")
