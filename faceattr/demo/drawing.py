"""A small drawing surface for cartoon faces: smooth shapes in face coordinates, colours and a map of parts.

Face coordinates have their origin in the middle of the head, y down: the top of the skull is at y = -1, the chin at
y = +1. Every shape goes through one affine map, so that shift, size and rotation cost nothing and blur nothing.
"""

import enum
import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Points = npt.NDArray[np.float64]
Colour = tuple[int, ...]

# Two pixels drawn for each one kept, in both directions: edges are smooth enough and four times is half as fast.
_SUPERSAMPLING = 2


class Part(enum.IntEnum):
    """What a pixel of the part map shows; the values are the pixel values."""

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
    """Rounds the corners of a polygon or an open line (Chaikin's corner cutting).

    Args:
        points: [n, 2] corners.
        closed: whether the last corner joins the first; the ends of an open line stay where they are.
        rounds: how often the corners are cut; each round doubles the number of points.

    Returns:
        [m, 2] float64 points.
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
    """Outline of a (super)ellipse.

    Args:
        x: centre.
        y: centre.
        radius_x: half width.
        radius_y: half height.
        power: 2 is an ellipse, larger values come near a rectangle.
        angle: turn in radians, clockwise on the screen.
        count: number of points.

    Returns:
        [count, 2] float64 points, beginning at the right and going down (clockwise on the screen).
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
    """The colour that lies `share` of the way from the first to the second, channel by channel."""
    return tuple(round(a + (b - a) * share) for a, b in zip(first[:3], second[:3], strict=True))


def shade(colour: Colour, factor: float) -> Colour:
    """The colour made darker (factor below 1) or lighter, clipped to [0, 255]."""
    return tuple(min(255, max(0, round(channel * factor))) for channel in colour[:3])


class Canvas:
    """An image and its map of parts, drawn with the same shapes.

    Args:
        size_px: edge of the finished square image.
        scale: pixels per face unit, as a share of `size_px`.
        centre: where the face's origin lies, as shares of the image's width and height.
        angle: turn of the face in radians, clockwise.
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
        # Pillow blends colours with alpha only on a surface opened as RGBA, which is slower for opaque shapes.
        self._opaque = ImageDraw.Draw(self._image)
        self._blending = ImageDraw.Draw(self._image, "RGBA")
        self._part_map = ImageDraw.Draw(self._parts)

    def paint_background(self, image: Image.Image) -> None:
        """Covers the whole image, whatever its own size, and leaves the part map alone."""
        self._image.paste(image.resize(self._image.size, Image.Resampling.BICUBIC))

    def polygon(self, points: Points, colour: Colour, part: Part | None = None) -> None:
        """Fills a polygon.

        Args:
            points: [n, 2] in face coordinates.
            colour: RGB, or RGBA to blend.
            part: what it shows; None for shading, which leaves the part map as it is.
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
            width: in face units; never thinner than one drawn pixel.
            colour: RGB, or RGBA to blend.
            part: as for `polygon`.
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
        """Draws small square dots at [n, 2] points; the part map stays as it is."""
        placed = (points @ self._matrix + self._shift) * _SUPERSAMPLING
        half = max(0.5, width * self._line_px * _SUPERSAMPLING / 2)
        draw = self._blending if len(colour) == 4 else self._opaque
        for x, y in placed.tolist():
            draw.rectangle((x - half, y - half, x + half, y + half), fill=colour)

    def finish(self) -> tuple[Image.Image, npt.NDArray[np.uint8]]:
        """Returns the image at its final size and the part map, uint8 [size_px, size_px] with values of `Part`."""
        return self._image.reduce(_SUPERSAMPLING), np.array(self._parts, dtype=np.uint8)
