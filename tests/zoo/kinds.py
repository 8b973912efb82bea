"""What a kind of image file in the zoo is: bytes made by code, a name, and what must become of them.

All pictures show four flat quadrants, a b / c d, so that the right pixels are known without a decoder.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT = 64, 32
Colour = tuple[int, int, int]
Corners = tuple[Colour, Colour, Colour, Colour]
CORNERS: Corners = ((230, 30, 20), (20, 200, 40), (30, 40, 220), (240, 220, 30))
WHITE = (255, 255, 255)
LOSSY = 12


@dataclass(frozen=True, kw_only=True)
class Picture:
    """The right pixels of an upright picture.

    Attributes:
        corners: colours of the quadrants a, b, c, d.
        width: in pixels.
        height: in pixels.
        tolerance: largest difference of a sample; 0 for what is stored exactly.
    """

    corners: Corners = CORNERS
    width: int = WIDTH
    height: int = HEIGHT
    tolerance: int = 0


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of file.

    Attributes:
        name: file name in the zoo's folder.
        what: what it is, for the table of docs/zoo.md.
        make: gives the bytes.
        expected: the picture, or the reasons of which one is right.
        detail: what the row's `error` must say.
        is_long: whether making or reading it takes a second or more.
    """

    name: str
    what: str
    make: Callable[[], bytes]
    expected: Picture | frozenset[str]
    detail: str = ""
    is_long: bool = False


def reasons(*names: str) -> frozenset[str]:
    """The reasons of which one is right."""
    return frozenset(names)


def quadrants(corners: object = CORNERS, *, width: int = WIDTH, height: int = HEIGHT) -> npt.NDArray[np.uint16]:
    """Samples of a picture of four flat quadrants: uint16 [height, width, channels].

    Args:
        corners: four values, numbers or tuples of a number per channel.
        width: in pixels.
        height: in pixels.
    """
    values = np.array(corners, np.uint16).reshape(2, 2, -1)
    return values.repeat(-(-height // 2), 0)[:height].repeat(-(-width // 2), 1)[:, :width]


def gray(*levels: int) -> Corners:
    """Corners of a gray picture."""
    a, b, c, d = ((level,) * 3 for level in levels)
    return a, b, c, d
