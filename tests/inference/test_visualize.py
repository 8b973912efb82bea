"""What is drawn has a bounded size and never fails for what stands in names."""

import numpy as np
import pytest

from faceattr.inference.detect import Face
from faceattr.inference.prediction import AttributePrediction, Prediction
from faceattr.inference.visualize import FoundFace, draw_faces, draw_prediction


def say(name, label, confidence=None):
    return AttributePrediction(name=name, label=label, confidence=confidence, scores={})


def test_a_long_name_makes_the_canvas_wider_and_no_wider_than_the_limit():
    image = np.zeros((20, 20, 3), np.uint8)
    for length, widest in ((60, 1_000), (2_000, 4_096)):
        name = "n" * length
        drawn = draw_prediction(image, Prediction({name: say(name, "yes", 0.9)}))
        assert 360 < drawn.width <= widest


def test_class_names_with_line_breaks_are_drawn():
    drawn = draw_prediction(np.zeros((40, 40, 3), np.uint8), Prediction({"hair": say("hair", "long\nred", 0.5)}))
    assert drawn.size == (360, 360 + 22 + 14)  # one line of 14 px, 1.6 high, and a margin


def test_a_picture_without_attributes_is_drawn():
    assert draw_prediction(np.zeros((40, 40, 3), np.uint8), Prediction({})).size == (360, 374)


@pytest.mark.parametrize("shape", [(2, 60_000), (60_000, 2), (1, 1)])
def test_faces_are_drawn_on_pictures_of_any_shape(shape):
    image = np.zeros((*shape, 3), np.uint8)
    face = Face(left=0, top=0, right=shape[1], bottom=shape[0], score=0.9)
    drawn = draw_faces(image, [FoundFace(face, Prediction({"hat": say("hat", "a\nb", 0.8)}))])
    assert max(drawn.size) <= 4_096
    assert (np.asarray(drawn) > 0).any()


def test_boxes_are_scaled_with_the_picture():
    image = np.zeros((100, 8_192, 3), np.uint8)
    face = Face(left=4_096, top=20, right=4_296, bottom=80, score=0.9)
    drawn = np.asarray(draw_faces(image, [FoundFace(face, Prediction({}))]))
    assert drawn.shape == (50, 4_096, 3)
    columns = np.flatnonzero((drawn > 0).any((0, 2)))
    assert (columns.min(), columns.max()) == (2_048, 2_147)
