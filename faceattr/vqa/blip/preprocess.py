"""RGB pixels -> the square uint8 image for BLIP, bit for bit equal to the Hugging Face processor's.

Rescaling and normalisation are folded into the model (`faceattr.vqa.blip.network.vision`), so images are transferred
as uint8.
Every decoding worker imports this file, so it stays light; `faceattr.vqa.blip.processor` reads a checkpoint's settings.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812


@dataclass(frozen=True)
class BlipPreprocessing:
    """Preprocessing of a checkpoint's images: resize to a square, then (x / 255 - mean) / std.

    Attributes:
        size_px: side S of the square.
        mean: per RGB channel, in units of x / 255.
        std: per RGB channel, in units of x / 255.
    """

    size_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def resize_rgb(image: np.ndarray, size_px: int) -> np.ndarray:
    """Resizes (antialiased bicubic, uint8), bit-equal to `BlipImageProcessor`; the aspect ratio is not kept.

    Args:
        image: uint8 [H, W, 3].
        size_px: side S of the result.

    Returns:
        uint8 [S, S, 3], contiguous.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected a uint8 image [H, W, 3], found {image.dtype} {list(image.shape)}")
    # Arrays from Ray's object store are read-only, which torch does not support.
    pixels = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)[None]
    resized = F.interpolate(pixels, size=(size_px, size_px), mode="bicubic", antialias=True)
    return resized[0].permute(1, 2, 0).contiguous().numpy()


def normalise(image: np.ndarray, preprocessing: BlipPreprocessing) -> np.ndarray:
    """Returns (x / 255 - mean) / std in float32; uint8 [..., 3] -> float32 [..., 3]."""
    mean = np.asarray(preprocessing.mean, dtype=np.float32)
    std = np.asarray(preprocessing.std, dtype=np.float32)
    return (image.astype(np.float32) / np.float32(255) - mean) / std
