"""A small canvas for cartoon faces: smooth shapes in face coordinates, colours, and a map of parts.

Face coordinates have their origin in the middle of the head, y down: the top of the skull is at y = -1, the chin at
y = +1. Every shape goes through a single affine map, so that shift, size and rotation do not blur it.
"""

import enum
import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Points = npt.NDArray[np.float64]
Colour = tuple[int, ...]

# Two drawn pixels per output pixel in both directions: edges are smooth enough, and four would take twice as long.
_SUPERSAMPLING = 2


class Part(enum.IntEnum):
    """Content of a pixel in the part map; the values are the pixel values."""

    BACKGROUND = 0
    BODY = 1
    SKIN = 2
    HAIR = 3
    FEATURE = 4
    OTHER = 5
    HAT = 6
    GLASSES = 7
    FACIAL_HAIR = 8


def compute_smooth(points: Sequence[tuple[float, float]] | Points, *, closed: bool = True, rounds: int = 3) -> Points:
    """Rounds the corners of a polygon or an open line by Chaikin's corner cutting.

    Args:
        points: [n, 2] corners.
        closed: whether the last corner is joined to the first; the ends of an open line do not move.
        rounds: number of rounds; each doubles the number of points.

    Returns:
        Points, float64 [m, 2].
    """
    line = np.asarray(points, dtype=np.float64)
    for _ in range(rounds):
        following = np.roll(line, -1, axis=0) if closed else line[1:]
        leading = line if closed else line[:-1]
        cut = np.empty((2 * len(leading), 2))
        cut[0::2] = 0.75 * leading + 0.25 * following
        cut[1::2] = 0.25 * leading + 0.75 * following
        line = cut if closed else np.concatenate([line[:1], cut, line[-1:]])
    return line


@functools.cache
def _unit_circle(count: int) -> Points:
    angles = np.linspace(0.0, 2.0 * np.pi, count, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def compute_ellipse(
    x: float, y: float, radius_x: float, radius_y: float, *, power: float = 2.0, angle: float = 0.0, count: int = 32
) -> Points:
    """Returns the outline of a (super)ellipse.

    Args:
        x: x coordinate of the centre.
        y: y coordinate of the centre.
        radius_x: half width.
        radius_y: half height.
        power: 2 is an ellipse; larger values approach a rectangle.
        angle: rotation in radians, clockwise on the screen.
        count: number of points.

    Returns:
        Points, float64 [count, 2], starting at the right and going down (clockwise on the screen).
    """
    unit = _unit_circle(count)
    if power != 2.0:
        unit = np.sign(unit) * np.abs(unit) ** (2.0 / power)
    shape = unit * (radius_x, radius_y)
    if angle:
        cos, sin = np.cos(angle), np.sin(angle)
        shape = shape @ np.array([[cos, sin], [-sin, cos]])
    return shape + np.array((x, y))


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Interpolates two colours channel by channel; `share` is the weight of the second."""
    return tuple(round(a + (b - a) * share) for a, b in zip(first[:3], second[:3], strict=True))


def shade(colour: Colour, factor: float) -> Colour:
    """Returns the colour made darker (factor below 1) or lighter, clipped to [0, 255]."""
    return tuple(min(255, max(0, round(channel * factor))) for channel in colour[:3])


class Canvas:
    """An image and its part map, drawn with the same shapes.

    Args:
        size_px: side of the finished square image.
        scale: pixels per face unit, as a share of `size_px`.
        centre: position of the face's origin, as shares of the image's width and height.
        angle: rotation of the face in radians, clockwise.
        squeeze: factor on the face's width.
    """

    def __init__(
        self, size_px: int, *, scale: float, centre: tuple[float, float], angle: float, squeeze: float = 1.0
    ) -> None:
        self.size_px = size_px
        self._matrix = (size_px * scale) * np.array(
            [[squeeze * np.cos(angle), squeeze * np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
        )
        self._shift = np.array(centre) * size_px
        self._line_px = size_px * scale
        drawn_px = size_px * _SUPERSAMPLING
        self._image = Image.new("RGB", (drawn_px, drawn_px))
        self._parts = Image.new("L", (size_px, size_px), int(Part.BACKGROUND))
        # Pillow blends colours with alpha only on an RGBA surface, which is slower for opaque shapes.
        self._opaque = ImageDraw.Draw(self._image)
        self._blending = ImageDraw.Draw(self._image, "RGBA")
        self._part_map = ImageDraw.Draw(self._parts)

    def paint_background(self, image: Image.Image) -> None:
        """Fills the whole image with a background of any size; the part map does not change."""
        self._image.paste(image.resize(self._image.size, Image.Resampling.BICUBIC))

    def polygon(self, points: Points, colour: Colour, part: Part | None = None) -> None:
        """Fills a polygon.

        Args:
            points: [n, 2] in face coordinates.
            colour: RGB, or RGBA to blend.
            part: content of the polygon; None for shading, which does not change the part map.
        """
        placed = points @ self._matrix + self._shift
        draw = self._blending if len(colour) == 4 else self._opaque
        draw.polygon((placed * _SUPERSAMPLING).ravel().tolist(), fill=colour)
        if part is not None:
            self._part_map.polygon(placed.ravel().tolist(), fill=int(part))

    def stroke(self, points: Points, width: float, colour: Colour, part: Part | None = None) -> None:
        """Draws an open line.

        Args:
            points: [n, 2] in face coordinates.
            width: width in face units; at least one drawn pixel.
            colour: RGB, or RGBA to blend.
            part: see `polygon`.
        """
        placed = points @ self._matrix + self._shift
        width_px = width * self._line_px
        draw = self._blending if len(colour) == 4 else self._opaque
        drawn_width = max(1, round(width_px * _SUPERSAMPLING))
        joint = "curve" if drawn_width > 3 else None
        draw.line((placed * _SUPERSAMPLING).ravel().tolist(), fill=colour, width=drawn_width, joint=joint)
        if part is not None:
            self._part_map.line(placed.ravel().tolist(), fill=int(part), width=max(1, round(width_px)))

    def dots(self, points: Points, width: float, colour: Colour) -> None:
        """Draws small square dots at points [n, 2]; the part map does not change."""
        placed = (points @ self._matrix + self._shift) * _SUPERSAMPLING
        half = max(0.5, width * self._line_px * _SUPERSAMPLING / 2)
        draw = self._blending if len(colour) == 4 else self._opaque
        for x, y in placed.tolist():
            draw.rectangle((x - half, y - half, x + half, y + half), fill=colour)

    def finish(self) -> tuple[Image.Image, npt.NDArray[np.uint8]]:
        """Returns the image at its final size and the part map, uint8 [size_px, size_px] with values of `Part`."""
        return self._image.reduce(_SUPERSAMPLING), np.array(self._parts, dtype=np.uint8)
