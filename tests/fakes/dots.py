"""Faces of five coloured dots, and a detector that finds them: a real one, for faces whose truth is known."""

import numpy as np
from PIL import Image

from faceattr.inference.align import FRONTAL_POINTS, FRONTAL_SIDE
from faceattr.inference.detect import Face

# Left eye, right eye, nose, left and right corner of the mouth.
COLOURS = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255)])


def draw_dots(side: int, radius: float = 3.0) -> np.ndarray:
    """A frontal face that fills a gray square of `side` px: uint8 [side, side, 3]."""
    image = np.full((side, side, 3), 128, np.uint8)
    rows, columns = np.mgrid[:side, :side] + 0.5
    for (x, y), colour in zip(np.array(FRONTAL_POINTS) * side / FRONTAL_SIDE, COLOURS, strict=True):
        image[(columns - x) ** 2 + (rows - y) ** 2 <= radius**2] = colour
    return image


def turn(image: np.ndarray, degrees: float, size: int) -> np.ndarray:
    """The image, turned counter-clockwise about its middle, in the middle of a gray square of `size` px."""
    canvas = np.full((size, size, 3), 128, np.uint8)
    start = (size - len(image)) // 2
    canvas[start : start + len(image), start : start + len(image)] = image
    turned = Image.fromarray(canvas).rotate(degrees, Image.Resampling.BICUBIC, fillcolor=(128, 128, 128))
    return np.asarray(turned)


class DotDetector:
    """Finds the faces whose five dots can be told apart by colour; one face for each `places`, else one in all."""

    def __init__(self, *cells: tuple[int, int, int]) -> None:
        """Args: `cells` are squares (left, top, side) in which there may be a face."""
        self._cells = cells

    def detect(self, image: np.ndarray) -> list[Face]:
        cells = self._cells or ((0, 0, max(image.shape[:2])),)
        found = [self._find(image[top : top + side, left : left + side], left, top) for left, top, side in cells]
        return [face for face in found if face is not None]

    @staticmethod
    def _find(image: np.ndarray, left: int, top: int) -> Face | None:
        points = []
        for colour in COLOURS:
            rows, columns = np.nonzero(np.abs(image.astype(int) - colour).max(2) < 60)
            if not len(rows):
                return None
            points.append((left + columns.mean() + 0.5, top + rows.mean() + 0.5))
        x, y = np.array(points).T
        # The box of a frontal face is about 112 where its eyes are 35 apart.
        half = np.hypot(x[1] - x[0], y[1] - y[0]) / 35.24 * 56
        middle_x, middle_y = (x.min() + x.max()) / 2, (y.min() + y.max()) / 2
        corners = (middle_x - half, middle_y - half, middle_x + half, middle_y + half)
        left_px, top_px, right_px, bottom_px = (int(max(0, round(each))) for each in corners)
        return Face(left_px, top_px, right_px, bottom_px, 0.9, tuple(points))
