"""RGB pixels -> the square uint8 image of a model, bit for bit equal to the checkpoint's own image processor.

Every decoding worker imports this file, so it stays light: torch alone, which resizes as torchvision does.
"""

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from faceattr.vqa.decoder.square import SquareImage


def resize_square(image: np.ndarray, square: SquareImage) -> np.ndarray:
    """Resizes as the checkpoint's image processor does.

    Args:
        image: uint8 [H, W, 3].
        square: the checkpoint's settings.

    Returns:
        uint8 [S, S, 3], contiguous.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected a uint8 image [H, W, 3], found {image.dtype} {list(image.shape)}")
    # Arrays from Ray's object store are read-only, which torch does not support.
    pixels = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)[None]
    if square.longest_edge_px is not None:
        height, width = image.shape[:2]
        pixels = _resize(pixels, _scaled(height, width, square.longest_edge_px), square.mode)
    pixels = _resize(pixels, (square.size_px, square.size_px), square.mode)
    return pixels[0].permute(1, 2, 0).contiguous().numpy()


def _resize(pixels: torch.Tensor, size: tuple[int, int], mode: str) -> torch.Tensor:
    return pixels if pixels.shape[2:] == size else F.interpolate(pixels, size=size, mode=mode, antialias=True)


def _scaled(height: int, width: int, longest: int) -> tuple[int, int]:
    """Returns height and width with the longer one at `longest` and the other one even, as Idefics3 rounds it."""
    ratio = width / height
    if width >= height:
        shorter = int(longest / ratio)
        return max(1, shorter + shorter % 2), longest
    shorter = int(longest * ratio)
    return longest, max(1, shorter + shorter % 2)
