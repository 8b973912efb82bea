"""Rain and fog on face images, the hard conditions of FaceCom. Randomness is torch's global generator."""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

_LIGHT_GRAY = 225.0


class RandomRain(nn.Module):
    """Bright slanted streaks, with probability p.

    Density, length and opacity grow with `strength` (0 to about 2).
    """

    def __init__(self, p: float, strength: float = 1.0) -> None:
        super().__init__()
        self.p = p
        self.strength = strength

    def forward(self, image: Tensor) -> Tensor:
        """uint8 [3, H, W] -> uint8 [3, H, W]."""
        if not _happens(self.p):
            return image
        return add_rain(
            image,
            density=0.004 * self.strength * _uniform(0.5, 1.5),
            length_px=max(3, round(image.shape[-2] * 0.06 * self.strength * _uniform(0.7, 1.3))),
            angle_deg=_uniform(-25.0, 25.0),
            opacity=min(0.9, 0.5 * self.strength * _uniform(0.7, 1.2)),
        )


class RandomFog(nn.Module):
    """Patchy haze towards light gray, with probability p; its thickness grows with `strength` (0 to about 2)."""

    def __init__(self, p: float, strength: float = 1.0) -> None:
        super().__init__()
        self.p = p
        self.strength = strength

    def forward(self, image: Tensor) -> Tensor:
        """uint8 [3, H, W] -> uint8 [3, H, W]."""
        if not _happens(self.p):
            return image
        return add_fog(image, thickness=min(0.85, 0.45 * self.strength * _uniform(0.6, 1.4)))


def add_rain(image: Tensor, *, density: float, length_px: int, angle_deg: float, opacity: float) -> Tensor:
    """Draws streaks.

    Args:
        image: uint8 [3, H, W].
        density: drops per pixel.
        length_px: of a streak.
        angle_deg: of the streaks from the vertical.
        opacity: of a streak, from 0 to 1.

    Returns:
        uint8 [3, H, W].
    """
    height, width = image.shape[-2:]
    drops = (torch.rand(1, 1, height, width) < density).float()
    size = length_px + 1 - length_px % 2  # an odd kernel keeps the place
    # Each drop is drawn out along a line: distance of a pixel from it, faded over one pixel.
    offsets = torch.arange(size, dtype=torch.float32) - size // 2
    slope = math.radians(angle_deg)
    distance = (offsets[None, :] * math.cos(slope) - offsets[:, None] * math.sin(slope)).abs()
    kernel = (1 - distance).clamp(min=0)
    streaks = F.conv2d(drops, kernel[None, None], padding=size // 2)[0].clamp(max=1).to(image.device)
    return _blend(image, streaks * opacity)


def add_fog(image: Tensor, *, thickness: float) -> Tensor:
    """Blends towards light gray by a smooth random field.

    Args:
        image: uint8 [3, H, W].
        thickness: share of gray on average, from 0 to 1.

    Returns:
        uint8 [3, H, W].
    """
    coarse = torch.rand(1, 1, 4, 4)
    field = F.interpolate(coarse, size=image.shape[-2:], mode="bicubic", align_corners=True)[0].to(image.device)
    return _blend(image, (thickness * (0.5 + field)).clamp(0, 1))


def _blend(image: Tensor, share: Tensor) -> Tensor:
    mixed = image.float() * (1 - share) + _LIGHT_GRAY * share
    return mixed.round().clamp(0, 255).to(torch.uint8)


def _happens(p: float) -> bool:
    return bool(torch.rand(()) < p)


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))
