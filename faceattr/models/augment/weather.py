"""Rain and fog on face images, the hard conditions of FaceCom."""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Generator, Tensor

_LIGHT_GRAY = 225.0


def add_rain(
    image: Tensor, *, density: float, length_px: int, angle_deg: float, opacity: float, generator: Generator
) -> Tensor:
    """Draws bright slanted streaks.

    Args:
        image: uint8 [3, H, W].
        density: drops per pixel.
        length_px: length of a streak in px.
        angle_deg: angle of the streaks from the vertical, in degrees.
        opacity: opacity of a streak, from 0 to 1.
        generator: source of the drops' places, on the CPU.

    Returns:
        uint8 [3, H, W].
    """
    height, width = image.shape[-2:]
    drops = (torch.rand(1, 1, height, width, generator=generator) < density).float()
    size = length_px + 1 - length_px % 2  # an odd kernel keeps the position
    # Each drop becomes a line: a pixel's distance from that line, faded over one pixel.
    offsets = torch.arange(size, dtype=torch.float32) - size // 2
    slope = math.radians(angle_deg)
    distance = (offsets[None, :] * math.cos(slope) - offsets[:, None] * math.sin(slope)).abs()
    kernel = (1 - distance).clamp(min=0)
    streaks = F.conv2d(drops, kernel[None, None], padding=size // 2)[0].clamp(max=1).to(image.device)
    return _blend(image, streaks * opacity)


def add_fog(image: Tensor, *, thickness: float, generator: Generator) -> Tensor:
    """Blends an image towards light gray by a smooth random field.

    Args:
        image: uint8 [3, H, W].
        thickness: mean share of gray, from 0 to 1.
        generator: source of the field, on the CPU.

    Returns:
        uint8 [3, H, W].
    """
    coarse = torch.rand(1, 1, 4, 4, generator=generator)
    field = F.interpolate(coarse, size=image.shape[-2:], mode="bicubic", align_corners=True)[0].to(image.device)
    return _blend(image, (thickness * (0.5 + field)).clamp(0, 1))


def _blend(image: Tensor, share: Tensor) -> Tensor:
    mixed = image.float() * (1 - share) + _LIGHT_GRAY * share
    return mixed.round().clamp(0, 255).to(torch.uint8)
