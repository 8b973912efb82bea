"""Images: `decode_image` gives pixels or an ImageError with a known reason."""

from collections.abc import Iterable

import pillow_heif

from faceattr.config import ImageLimitsConfig
from faceattr.data.images.decode import REASONS, decode_image
from faceattr.errors import ImageError
from tests.fuzz.target import Target

_LIMITS = ImageLimitsConfig(max_bytes=2**20, max_pixels=2**20)
_WORDS = (
    b"\xff\xd8",
    b"\xff\xd9",
    b"\xff\xda",
    b"Exif\0\0",
    b"IHDR",
    b"IDAT",
    b"tRNS",
    b"eXIf",
    b"IEND",
    b"VP8X",
    b"meta",
)


def run(data: bytes) -> None:
    """Decodes an image."""
    try:
        pixels = decode_image(data, _LIMITS)
    except ImageError as error:
        assert error.reason in REASONS  # noqa: PT017
    except MemoryError:
        pass  # documented: the decoding process ends with it, and the image gets a reason
    else:
        assert pixels.dtype == "uint8"
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
        assert pixels.size <= 3 * _LIMITS.max_pixels


def seeds() -> Iterable[bytes]:
    """Small images of every format and of many modes."""
    from tests.zoo.zoo import FAMILIES, kinds_of

    pillow_heif.register_heif_opener()
    for family in FAMILIES:
        if family in ("Bombs", "Metadata", "Cut files"):
            continue
        for kind in kinds_of(family):
            data = kind.make()
            if len(data) <= 8_000:
                yield data
    yield b"\xff\xd8\xff\xd9"
    yield b"II+\0\x08\0\0\0" + b"\xff" * 8  # a BigTIFF whose directory is farther than an index can be


TARGET = Target(run=run, seeds=seeds, words=_WORDS)
