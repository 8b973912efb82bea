"""Decoded pixels -> the square image that is sent: whole and undistorted, with black bars. Every decoder imports it."""

import numpy as np
from PIL import Image, ImageOps


def pad_rgb(image: np.ndarray, size_px: int) -> np.ndarray:
    """Resizes (bicubic) so that the longer side fits, and centres; uint8 [H, W, 3] -> uint8 [size_px, size_px, 3]."""
    padded = ImageOps.pad(Image.fromarray(np.asarray(image)), (size_px, size_px), Image.Resampling.BICUBIC)
    return np.array(padded)
