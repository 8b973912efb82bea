"""Strips of thumbnails in a report. They copy images into it, so they are drawn only on request."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from PIL import Image

from faceattr.config import ImageLimitsConfig
from faceattr.data.images.decoder import process_decoder
from faceattr.data.runs.commit import read_ahead
from faceattr.errors import ImageError

# Sharp at 84 px on screens with two pixels per CSS pixel.
_SIDE_PX = 168
_JPEG_QUALITY = 80
_Image = TypeVar("_Image")


@dataclass(frozen=True, kw_only=True)
class Thumbnail(Generic[_Image]):
    """One image of a strip.

    Attributes:
        image: what it is read by.
        caption: text below it.
        is_mistake: whether it is marked.
        picture: the thumbnail as a data URI; empty if the image cannot be used.
        problem: why it cannot be used.
    """

    image: _Image
    caption: str
    is_mistake: bool = False
    picture: str = ""
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Strip(Generic[_Image]):
    """Images side by side."""

    title: str
    thumbnails: Sequence[Thumbnail[_Image]]


def draw_strips(
    strips: Sequence[Strip[_Image]], read: Callable[[_Image], bytes | ImageError], limits: ImageLimitsConfig
) -> list[Strip[_Image]]:
    """Returns the strips with their pictures, without those that have no image.

    Args:
        strips: what is to be drawn.
        read: returns an encoded image, or why it cannot be used; called by several threads, once for each image.
        limits: bounds of one image.

    Raises:
        RunError, StorageError: as `read` does; or the decoder cannot be started.
    """
    wanted = dict.fromkeys(each.image for strip in strips for each in strip.thumbnails)
    decoder = process_decoder(limits)
    drawn: dict[_Image, str | ImageError] = {}
    for image, data in read_ahead(read, wanted):
        (pixels,) = [data] if isinstance(data, ImageError) else decoder.decode_batch([data])
        drawn[image] = pixels if isinstance(pixels, ImageError) else _encode(Image.fromarray(pixels))
    return [
        replace(strip, thumbnails=[_fill(each, drawn[each.image]) for each in strip.thumbnails])
        for strip in strips
        if strip.thumbnails
    ]


def _fill(thumbnail: Thumbnail[_Image], found: str | ImageError) -> Thumbnail[_Image]:
    if isinstance(found, ImageError):
        return replace(thumbnail, problem=found.reason)
    return replace(thumbnail, picture=found)


def _encode(image: Image.Image) -> str:
    image.thumbnail((_SIDE_PX, _SIDE_PX), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.getvalue()).decode()}"
