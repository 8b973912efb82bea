"""RGB pixels -> the square uint8 image for CLIP and SigLIP, bit for bit equal to the Hugging Face processors'.

Both resize by torchvision, which is used here too: how it rounds depends on the machine's vector unit.
"""

import numpy as np
import torch
from torchvision.transforms.v2 import functional
from torchvision.transforms.v2.functional import InterpolationMode

from faceattr.vqa.contrastive.processor import Framing

_MODES = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}
# A longer image is cut to this many times its shorter side before it is resized: a strip of 1 x 4,000 pixels would
# become one of 224 x 896,000, of which the crop keeps 224 columns.
_LONGEST = 32


def frame_rgb(image: np.ndarray, framing: Framing) -> np.ndarray:
    """Resizes and crops as the checkpoint's image processor does.

    Args:
        image: uint8 [H, W, 3].
        framing: how the square is made.

    Returns:
        uint8 [S, S, 3], contiguous.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected a uint8 image [H, W, 3], found {image.dtype} {list(image.shape)}")
    side, shortest = framing.size_px, framing.shortest_px
    if shortest is not None:
        image = _cut(image)
    # Arrays from Ray's object store are read-only, which torch does not support.
    pixels = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)
    size = [side, side] if shortest is None else _scale(image.shape[0], image.shape[1], shortest)
    resized = functional.resize(pixels, size, interpolation=_MODES[framing.interpolation], antialias=True)
    # Half a pixel is rounded towards the top left, as in transformers.
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    return resized[:, top : top + side, left : left + side].permute(1, 2, 0).contiguous().numpy()


def _scale(height: int, width: int, shortest: int) -> list[int]:
    """Returns height and width with the shorter one at `shortest`, the longer one rounded down."""
    longest = int(shortest * max(height, width) / min(height, width))
    return [longest, shortest] if width <= height else [shortest, longest]


def _cut(image: np.ndarray) -> np.ndarray:
    """Returns the central part of an image that is longer than `_LONGEST` times its shorter side."""
    height, width = image.shape[:2]
    most = _LONGEST * min(height, width)
    top, left = max(0, height - most) // 2, max(0, width - most) // 2
    return image[top : height - top, left : width - left]
