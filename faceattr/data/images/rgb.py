"""A picture of any of Pillow's modes to RGB: 16 bits to 8, gray and palettes to colour, transparency over white."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from faceattr.errors import ImageError

_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr")
# Pixels that are converted at a time, so that a large picture is in memory once and not four times.
_BAND_PIXELS = 2**20


def convert_to_rgb(image: ImageFile.ImageFile, pixels: npt.NDArray[np.uint8], *, bits: int = 8) -> None:
    """Writes a picture's pixels.

    Args:
        image: a loaded picture; its `transparency` may be changed.
        pixels: uint8 [H, W, 3], where they go.
        bits: bits of a sample in the file, of a PNG.

    Raises:
        ImageError: `unsupported`: samples of 32 bits, or of a colour space without a rule.
    """
    if image.mode not in _MODES and not image.mode.startswith("I;16"):
        raise ImageError("unsupported", f"{image.format} with samples of Pillow mode {image.mode}")
    _scale_key(image, bits)
    rows = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        pixels[top : top + rows] = _convert_band(band)


def _convert_band(band: Image.Image) -> npt.NDArray[np.uint8]:
    """uint8 [H, W, 3], or [H, W, 1] of a gray band."""
    if band.mode.startswith("I;16"):
        # The high byte, as Pillow takes it of 16-bit colour; its own conversion of gray would clip.
        samples = np.asarray(band)
        gray = (samples >> 8).astype(np.uint8)
        if "transparency" in band.info:
            gray[samples == band.info["transparency"]] = 255
        return gray[:, :, np.newaxis]
    if not band.has_transparency_data:
        return np.asarray(band.convert("RGB"))
    page = Image.new("RGBA", band.size, "white")
    return np.asarray(Image.alpha_composite(page, band.convert("RGBA")).convert("RGB"))


def _scale_key(image: ImageFile.ImageFile, bits: int) -> None:
    """Makes the transparent gray or colour of a PNG one of 8 bits, as the samples are: Pillow gives it as it is stored.

    Of colours of 16 bits Pillow gives the high bytes alone, so that these decide.
    """
    key = image.info.get("transparency")
    if image.mode == "L" and bits < 8 and isinstance(key, int):
        image.info["transparency"] = key * 255 // (2**bits - 1)
    elif image.mode == "RGB" and bits == 16 and isinstance(key, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in key)
