"""EXIF orientations 1 to 8 in every format that has them."""

from collections.abc import Iterator

import numpy as np
import pillow_heif
from PIL import Image

from tests.data.pictures import ORIENTATION_TAG
from tests.zoo.encoders import saved
from tests.zoo.kinds import CORNERS, HEIGHT, LOSSY, WIDTH, Kind, Picture, quadrants

# Where the corners of an upright picture, a b / c d, are stored: the tag names the sides of the picture that the
# stored first row and first column are (TIFF 6.0, section 8).
STORED = {1: "abcd", 2: "badc", 3: "dcba", 4: "cdab", 5: "acbd", 6: "bdac", 7: "dbca", 8: "cadb"}
_NAMED = dict(zip("abcd", CORNERS, strict=True))


def orientations() -> Iterator[Kind]:
    """Eight of each of seven formats."""
    formats = {"JPEG": "jpg", "MPO": "mpo", "PNG": "png", "WEBP": "webp", "TIFF": "tif", "AVIF": "avif", "HEIF": "heic"}
    for image_format, extension in formats.items():
        for orientation in STORED:
            yield Kind(
                name=f"exif-{image_format.lower()}-{orientation}.{extension}",
                what=f"{image_format}, EXIF orientation {orientation}",
                make=lambda image_format=image_format, orientation=orientation: _stored(image_format, orientation),
                expected=Picture(tolerance=LOSSY),
            )


def _stored(image_format: str, orientation: int) -> bytes:
    width, height = (WIDTH, HEIGHT) if orientation < 5 else (HEIGHT, WIDTH)
    samples = quadrants([_NAMED[letter] for letter in STORED[orientation]], width=width, height=height)
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    options = {} if image_format in ("TIFF", "PNG") else {"quality": 95}
    if image_format == "HEIF":  # of HEIF its own boxes count, which the encoder writes for an EXIF in bytes
        pillow_heif.register_heif_opener()
    written = exif.tobytes() if image_format == "HEIF" else exif
    return saved(Image.fromarray(samples.astype(np.uint8)), image_format, exif=written, **options)
