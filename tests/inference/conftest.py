import pytest
import torch

from faceattr.attributes import Attribute, AttributeSet, DerivedAttribute
from faceattr.data.sources.face_classes import FACE_ATTRIBUTES
from tests.models.tiny import build_model

ATTRIBUTES = AttributeSet(
    attributes=(
        Attribute(name="hat"),
        Attribute(name="glasses"),
        FACE_ATTRIBUTES["age"],
        FACE_ATTRIBUTES["age_group"],
        Attribute(name="person", kind="identity", classes=("p7", "p10", "p9")),
    ),
    derived=(DerivedAttribute(name="clear", rule="not (hat or glasses)"),),
)
CALIBRATION = {
    "hat": {"method": "temperature", "temperature": 2.0},
    "glasses": {"method": "isotonic", "curves": [{"x": [0.2, 0.45, 0.7], "y": [0.1, 0.3, 0.9]}]},
    "age_group": {"method": "temperature", "temperature": 0.5},
}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A random model of every kind of attribute, with thresholds and calibration."""
    folder = tmp_path_factory.mktemp("model")
    return build_model("vit", folder, ATTRIBUTES, thresholds={"hat": 0.4}, calibration=CALIBRATION).eval()


@pytest.fixture(scope="session")
def model_folder(model, tmp_path_factory):
    """The same, saved."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Five pictures of several sizes and endings, two of them no images, in string order."""
    import numpy as np
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(3)
    for name, (height, width) in {"a.JPG": (60, 44), "c.png": (31, 90), "e.jpeg": (128, 128)}.items():
        pixels = np.kron(rng.integers(0, 256, (4, 4, 3), np.uint8), np.ones((height // 4 + 1, width // 4 + 1, 1), "u1"))
        Image.fromarray(pixels[:height, :width]).save(folder / name)
    (folder / "b.jpg").write_bytes(b"<!DOCTYPE html><html></html>")
    (folder / "d.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no image")
    return folder
