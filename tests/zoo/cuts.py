"""Files that end early, at every tenth of their length."""

import functools
from collections.abc import Iterator

import pillow_heif

from tests.data.pictures import draw_picture
from tests.zoo.encoders import saved
from tests.zoo.kinds import Kind, reasons

# A picture whose pixels are most of the file; of the flat one, headers would be.
_PICTURE = draw_picture(160, 120)
_WAYS: dict[str, tuple[str, dict[str, object]]] = {
    "jpeg.jpg": ("JPEG", {"quality": 90}),
    "progressive.jpg": ("JPEG", {"quality": 90, "progressive": True}),
    "png.png": ("PNG", {}),
    "webp.webp": ("WEBP", {}),
    "gif.gif": ("GIF", {}),
    "tiff.tif": ("TIFF", {}),
    "lzw.tif": ("TIFF", {"compression": "tiff_lzw"}),
    "bmp.bmp": ("BMP", {}),
    "avif.avif": ("AVIF", {}),
    "heif.heic": ("HEIF", {}),
}


def cuts() -> Iterator[Kind]:
    """Nine cuts of each."""
    for name in _WAYS:
        stem, _, extension = name.partition(".")
        for tenth in range(1, 10):
            yield Kind(
                name=f"cut-{stem}-{tenth}.{extension}",
                what=f"{stem}, the first {tenth} tenths",
                make=lambda name=name, tenth=tenth: _first(_whole(name), tenth),
                expected=reasons("truncated"),
            )


@functools.cache
def _whole(name: str) -> bytes:
    image_format, options = _WAYS[name]
    pillow_heif.register_heif_opener()
    return saved(_PICTURE.quantize(64) if image_format == "GIF" else _PICTURE, image_format, **options)


def _first(data: bytes, tenths: int) -> bytes:
    return data[: len(data) * tenths // 10]
