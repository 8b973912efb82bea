"""Small pictures in several formats, and what decoding says of damaged ones, for the tests of images."""

import io

import numpy as np
import pytest
from PIL import Image

from faceattr.config import ImageLimitsConfig
from faceattr.data.images.decode import REASONS, decode_image
from faceattr.errors import ImageError

LIMITS = ImageLimitsConfig()
ORIENTATION_TAG = 0x0112


def draw_picture(width: int = 61, height: int = 37) -> Image.Image:
    """Smooth and asymmetric, odd-sized so that chroma subsampling has edges to get wrong."""
    noise = np.random.default_rng(3).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, image_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def read_with_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB"))


def find_reason(data: bytes, limits: ImageLimitsConfig = LIMITS) -> str:
    with pytest.raises(ImageError) as caught:
        decode_image(data, limits)
    assert caught.value.reason in REASONS
    return caught.value.reason


def find_detail(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode_image(data, LIMITS)
    return caught.value.detail


PICTURE = draw_picture()


JPEG = encode(PICTURE, "JPEG", quality=90)


PROGRESSIVE = encode(PICTURE, "JPEG", quality=90, progressive=True)


PNG = encode(PICTURE, "PNG")


WEBP = encode(PICTURE, "WEBP")
