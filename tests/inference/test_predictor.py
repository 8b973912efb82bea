"""Predictions against the model called by hand, one image at a time, with torchvision's own transforms."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

import faceattr
from faceattr.config import ImageLimitsConfig
from faceattr.errors import ConfigError, ImageError
from faceattr.evaluation.decisions import decide_labels, truth_table
from faceattr.inference.prediction import Prediction
from faceattr.inference.predictor import Predictor
from faceattr.models.multitask import MultiAttributeModel
from tests.inference.conftest import ATTRIBUTES


def by_hand(model, path) -> dict:
    """Scores of one picture: PIL, torchvision's transforms as the preprocessing says, one forward, plain formulas."""
    wanted = model.backbone.preprocessing
    side = int(wanted.size_px / wanted.crop_fraction)
    transform = v2.Compose(
        [
            v2.PILToTensor(),
            v2.Resize(side, interpolation=v2.InterpolationMode.BICUBIC, antialias=True),
            v2.CenterCrop(wanted.size_px),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(wanted.mean, wanted.std),
        ]
    )
    with torch.inference_mode():
        outputs = model(transform(Image.open(path).convert("RGB"))[None])
    plain = {name: output[0].double() for name, output in outputs.items()}
    glasses = float(plain["glasses"].sigmoid())
    return {
        "hat": float((plain["hat"] / 2).sigmoid()),
        "glasses": float(np.interp(glasses, [0.2, 0.45, 0.7], [0.1, 0.3, 0.9])),
        "age_group": (plain["age_group"] / 0.5).softmax(0).numpy(),
        "person": plain["person"].softmax(0).numpy(),
        "age": float(plain["age"].softmax(0) @ torch.arange(117.0).double()),
    }


def check(prediction: Prediction, wanted: dict) -> None:
    hat, glasses = wanted["hat"] >= 0.4, wanted["glasses"] >= 0.5
    assert [prediction[name].label for name in ("hat", "glasses", "clear")] == [
        "yes" if each else "no" for each in (hat, glasses, not (hat or glasses))
    ]
    assert prediction["hat"].score == pytest.approx(wanted["hat"], abs=1e-5)
    assert prediction["glasses"].score == pytest.approx(wanted["glasses"], abs=1e-5)
    confidence = wanted["hat"] if hat else 1 - wanted["hat"]
    assert prediction["hat"].confidence == pytest.approx(confidence, abs=1e-5)
    assert prediction["age"].label == pytest.approx(wanted["age"], abs=1e-3)
    for name in ("age_group", "person"):
        place = int(wanted[name].argmax())
        assert prediction[name].label == ATTRIBUTES[name].classes[place]
        assert prediction[name].confidence == pytest.approx(wanted[name][place], abs=1e-5)
    scores = dict(zip(ATTRIBUTES["age_group"].classes, wanted["age_group"], strict=True))
    assert prediction["age_group"].scores == pytest.approx(scores, abs=1e-5)
    assert list(prediction["age_group"].scores) == list(scores)  # FairFace's ages in their own order


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_each_picture_has_its_own_prediction_at_its_own_place(model, photos, batch_size):
    names = ["a.JPG", "b.jpg", "c.png", "d.png", "e.jpeg", "gone.jpg"]
    found = Predictor(model, device="cpu", batch_size=batch_size).predict([photos / name for name in names])
    assert [isinstance(each, ImageError) for each in found] == [False, True, False, True, False, True]
    assert [each.reason for each in found if isinstance(each, ImageError)] == ["not_an_image", "empty", "missing"]
    for name, each in zip(names, found, strict=True):
        if not isinstance(each, ImageError):
            check(each, by_hand(model, photos / name))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_mirror_images_are_averaged(model, precision):
    """Outputs are the means of two plain passes, so an image and its mirror image get the same scores."""
    size = model.backbone.preprocessing.size_px
    pixels = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8)
    plain = Predictor(model, device="cpu", precision=precision)
    mirrored = Predictor(model, device="cpu", precision=precision, flip=True)
    straight, turned = plain.outputs(pixels), plain.outputs(pixels[:, :, ::-1])
    for name, found in mirrored.outputs(pixels).items():
        np.testing.assert_allclose(found, (straight[name] + turned[name]) / 2, rtol=1e-5, atol=1e-6)
        assert np.abs(found - straight[name]).max() > 1e-3
    one, other = mirrored.score(pixels), mirrored.score(pixels[:, :, ::-1])
    for name, score in one.items():
        np.testing.assert_allclose(score, other[name], rtol=1e-5, atol=1e-6)


def test_bytes_and_pixels_are_taken_too(model, photos):
    path = photos / "c.png"
    pixels = np.array(Image.open(path))
    predictor = Predictor(model, device="cpu")
    for found in [*predictor.predict([path, path.read_bytes(), pixels]), *predictor.predict_images([pixels])]:
        check(found, by_hand(model, path))
    assert predictor.predict([]) == predictor.predict_images([]) == []
    with pytest.raises(ValueError, match="expected RGB pixels"):
        predictor.predict([pixels.astype(np.float32)])


def test_many_pictures_go_through_threads_in_order_and_few_at_a_time(model, photos):
    class Shelf(Sequence):
        """A long row of two pictures and a broken one, by turns, that knows how far it was read."""

        paths = (photos / "a.JPG", photos / "c.png", photos / "b.jpg")
        furthest = 0

        def __len__(self):
            return 300

        def __getitem__(self, wanted):
            if isinstance(wanted, slice):
                return [self[place] for place in range(*wanted.indices(len(self)))]
            self.furthest = max(self.furthest, wanted + 1)
            return self.paths[wanted % 3]

    shelf, threads = Shelf(), torch.get_num_threads()
    stream = Predictor(model, device="cpu", batch_size=4).stream(shelf)
    wanted = [by_hand(model, path) for path in shelf.paths[:2]]
    check(next(stream), wanted[0])
    assert shelf.furthest <= 2 * max(threads, 1) * 4
    rest = list(stream)
    assert len(rest) == 299
    for place, each in enumerate(rest, start=1):
        if place % 3 == 2:
            assert each.reason == "not_an_image"
        else:
            check(each, wanted[place % 3])
    assert torch.get_num_threads() == threads


def test_half_precision_moves_scores_a_little(model, photos):
    names = ["a.JPG", "c.png", "e.jpeg"]
    found = Predictor(model, device="cpu", precision="bfloat16").predict([photos / name for name in names])
    moved = []
    for name, each in zip(names, found, strict=True):
        wanted = by_hand(model, photos / name)
        assert each["age"].label == pytest.approx(wanted["age"], abs=0.5)
        for attribute in ("hat", "glasses"):
            assert each[attribute].score == pytest.approx(wanted[attribute], abs=0.02)
            moved.append(abs(each[attribute].score - wanted[attribute]))
    assert max(moved) > 1e-5  # or it was computed in float32 after all
    again = faceattr.predict_batch([photos / name for name in names], model, precision="bfloat16", device="cpu")
    assert [each["age"] for each in again] == pytest.approx([each["age"].label for each in found], abs=0.5)


def test_no_image_gives_empty_arrays_of_the_right_shape(model):
    size = model.backbone.preprocessing.size_px
    scores = Predictor(model, device="cpu").score(np.zeros((0, size, size, 3), np.uint8))
    assert {name: score.shape for name, score in scores.items()} == {
        "hat": (0,),
        "glasses": (0,),
        "age": (0,),
        "age_group": (0, 9),
        "person": (0, 3),
    }


def test_scores_do_not_depend_on_the_batch(model):
    size = model.backbone.preprocessing.size_px
    pixels = np.random.default_rng(0).integers(0, 256, (7, size, size, 3), np.uint8)
    whole = Predictor(model, device="cpu", batch_size=7).score(pixels)
    for batch_size in (1, 3):
        for name, score in Predictor(model, device="cpu", batch_size=batch_size).score(pixels).items():
            np.testing.assert_allclose(score, whole[name], rtol=1e-4, atol=1e-6)


def test_a_score_on_its_threshold_is_a_yes():
    scores = {
        "hat": np.float32([0.25, np.nextafter(np.float32(0.25), np.float32(0))]),
        "glasses": np.float32([0.5, 0.49]),
        "age": np.float32([3, 4]),
        "age_group": np.eye(9, dtype=np.float32)[[8, 1]],
        "person": np.eye(3, dtype=np.float32)[[2, 0]],
    }
    labels = decide_labels(ATTRIBUTES, scores, {"hat": 0.25})
    assert {name: label.tolist() for name, label in labels.items()} == {
        "hat": [1, 0],
        "glasses": [1, 0],
        "age": [3.0, 4.0],
        "age_group": [8, 1],
        "person": [2, 0],
        "clear": [0, 1],
    }


def test_a_rules_truth_table_counts_its_first_input_as_one():
    from faceattr.attributes import DerivedAttribute

    assert truth_table(DerivedAttribute(name="x", rule="a and not b")).tolist() == [0, 1, 0, 0]


def test_class_order_survives_save_and_load(model_folder, photos):
    loaded = MultiAttributeModel.from_pretrained(model_folder)
    assert loaded.attributes == ATTRIBUTES
    (found,) = Predictor(loaded, device="cpu").predict([photos / "e.jpeg"])
    check(found, by_hand(loaded, photos / "e.jpeg"))


def test_an_impossible_device_is_named(model):
    with pytest.raises(ConfigError, match="device 'tpu9'"):
        Predictor(model, device="tpu9")


# --- the Python API ---------------------------------------------------------------------------------------------------


def test_load_predict_and_draw(model_folder, photos, tmp_path):
    model, device = faceattr.load_model(model_folder, "cpu")
    assert str(device) == "cpu"
    path = photos / "a.JPG"
    wanted = by_hand(model, path)
    found = faceattr.predict_image(path, model, return_confidence=True)
    assert found["hat"] == ("yes" if wanted["hat"] >= 0.4 else "no")
    assert found["age"] == pytest.approx(wanted["age"], abs=1e-3)
    assert found["age_group_scores"]["3-9"] == pytest.approx(wanted["age_group"][1], abs=1e-5)
    assert set(faceattr.predict_image(path, model)) == {"hat", "glasses", "age", "age_group", "person", "clear"}
    json.dumps(found)

    picture = faceattr.visualize_prediction(path, found, tmp_path / "new" / "a_pred.jpg")
    assert (tmp_path / "new" / "a_pred.jpg").is_file()
    assert picture.size[0] >= 360
    assert picture.size[1] > picture.size[0] * 60 / 44  # the picture, and a panel below it
    again = faceattr.visualize_prediction(path, model=model)
    assert np.array_equal(np.array(again), np.array(picture))


def test_predict_batch_never_shifts(model_folder, photos, monkeypatch):
    monkeypatch.setenv("FACEATTR_MODEL", str(model_folder))
    names = ["b.jpg", "a.JPG", "d.png", "c.png"]
    found = faceattr.predict_batch([photos / name for name in names], batch_size=2, return_confidence=True)
    assert [each["path"] for each in found] == [str(photos / name) for name in names]
    assert ["error" in each for each in found] == [True, False, True, False]
    assert "not_an_image" in found[0]["error"]
    for place in (1, 3):
        alone = faceattr.predict_image(photos / names[place], return_confidence=True)
        assert found[place].keys() - {"path"} == alone.keys()
        assert found[place]["age"] == pytest.approx(alone["age"], abs=1e-4)
    assert faceattr.predict_batch([]) == []
    with pytest.raises(ImageError, match="not_an_image"):
        faceattr.predict_image(photos / "b.jpg")
    with pytest.raises(ConfigError, match="batch_size"):
        faceattr.predict_batch([], batch_size=0)


def test_the_transform_is_the_models_own_and_may_be_anothers(model, photos):
    path = photos / "c.png"
    own = faceattr.predict_image(path, model, return_confidence=True)
    given = faceattr.predict_image(path, model, transform=faceattr.get_transform(model), return_confidence=True)
    assert given["age"] == pytest.approx(own["age"], abs=1e-4)
    black = faceattr.predict_image(path, model, transform=lambda image: torch.zeros(3, 32, 32))
    with torch.inference_mode():
        wanted = model(torch.zeros(1, 3, 32, 32))["age"][0].softmax(0) @ torch.arange(117.0)
    assert black["age"] == pytest.approx(float(wanted), abs=1e-3)


def test_without_a_model_the_variable_is_named(monkeypatch, photos):
    monkeypatch.delenv("FACEATTR_MODEL", raising=False)
    with pytest.raises(ConfigError, match="FACEATTR_MODEL"):
        faceattr.predict_image(photos / "a.JPG")


def test_the_package_has_these_names_and_no_others():
    assert all(callable(getattr(faceattr, name)) for name in faceattr.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        faceattr.nonsense  # noqa: B018


def test_a_picture_over_the_limit_is_an_error_at_its_own_place(model_folder, photos, monkeypatch):
    monkeypatch.setenv("FACEATTR_MODEL", str(model_folder))
    limits = ImageLimitsConfig(max_bytes=(photos / "a.JPG").stat().st_size)
    over = next(path for path in sorted(photos.iterdir()) if path.stat().st_size > limits.max_bytes)
    first, second = faceattr.predict_batch([over, photos / "a.JPG"], limits=limits)
    assert first["error"].startswith("too_large: ")
    assert "hat" in second
    with pytest.raises(ImageError, match=r"over the limit of 1 \(--decode\.max-bytes\)"):
        faceattr.predict_image(photos / "a.JPG", limits=ImageLimitsConfig(max_bytes=1))
