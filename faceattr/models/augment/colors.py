"""Brightness, contrast, saturation and hue of images, as in torchvision, in one pass.

The first three are linear maps of a pixel and the image's mean gray, and maps of this kind commute, so that they are
one 3 x 3 matrix and an offset, in whatever order torchvision would apply them. Numbers are rounded and limited to 0 to
255 once, after the three, where torchvision does so after each. A change of hue is not linear: a rotation of the colour
space, the usual approximation, is as far from it on faces as the change itself. It is piecewise linear, though, and
computed exactly.
"""

import torch
from torch import Tensor

# Weights of red, green and blue in torchvision's gray.
_GRAY = (0.2989, 0.587, 0.114)
# Steps of a hue in each sixth of the colour circle, a power of 2; int16 holds 255 times as many.
_HUE_BITS = 7


def change_colors(images: Tensor, *, brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor) -> Tensor:
    """Changes the colours of each image by its own factors.

    Args:
        images: uint8 [n, 3, H, W].
        brightness: float32 [n], factor of all numbers.
        contrast: float32 [n], factor of the distance from the mean gray.
        saturation: float32 [n], factor of the distance from the pixel's gray.
        hue: float32 [n], turn of the colour circle, from -1/9 to 1/9.

    Returns:
        uint8 [n, 3, H, W].
    """
    gray = torch.tensor(_GRAY, device=images.device)
    pixels = images.flatten(2).float()
    # 0.5, since the conversion to integers cuts off fractions.
    mean_gray = (pixels.mean(2) @ gray)[:, None, None]
    offset = 0.5 + (brightness * (1 - contrast))[:, None, None] * mean_gray
    saturated = saturation[:, None, None]
    matrix = saturated * torch.eye(3, device=images.device) + (1 - saturated) * gray
    changed = torch.baddbmm(offset, (brightness * contrast)[:, None, None] * matrix, pixels)
    limited = changed.clamp_(0, 255).to(torch.int16)
    return shift_hue(limited, hue).to(torch.uint8).view_as(images)


def shift_hue(pixels: Tensor, turns: Tensor) -> Tensor:
    """Turns the hues of the HSV colour space; value and saturation do not change.

    As the hue goes round its circle of six sixths, each channel climbs from the pixel's lowest number to its highest
    within one sixth, stays for two, falls within one, and stays for two. That is a zigzag which climbs and falls all
    the time, limited to lowest and highest: 2 c - m, with c the channel's number and m the middle one of the three. A
    turn by a share of a sixth adds or takes off this share of highest - lowest, depending on whether the channel climbs
    or falls, which the two other channels tell.

    Args:
        pixels: int16 [n, 3, P], from 0 to 255.
        turns: float32 [n], from -1/9 to 1/9; rounded to 1/768, so that numbers are exact to 2.

    Returns:
        int16 [n, 3, P].
    """
    red, green, blue = pixels.unbind(1)
    high, low = torch.maximum(red, green), torch.minimum(red, green)
    middle = torch.maximum(torch.minimum(high, blue), low)
    high, low = torch.maximum(high, blue)[:, None], torch.minimum(low, blue)[:, None]
    steps = (6 * 2**_HUE_BITS * turns).round().to(torch.int16)[:, None, None]
    half = 2 ** (_HUE_BITS - 1)
    moved = (high - low).mul_(steps.abs()).add_(half).bitwise_right_shift_(_HUE_BITS)
    # Only the sign counts: where the limits do not decide anyway, the others differ by a third of highest - lowest at
    # least, and `moved` is two thirds of it at most.
    direction = torch.stack([green - blue, blue - red, red - green], 1).mul_(2 * steps.sign())
    direction = torch.minimum(torch.maximum(direction, -moved), moved)
    line = (pixels - middle[:, None]).add_(pixels).sub_(direction)
    return torch.minimum(torch.maximum(line, low), high)
