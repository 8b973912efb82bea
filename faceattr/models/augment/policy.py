"""Policies of random operations: RandAugment (Cubuk et al. 2020) and TrivialAugment Wide (Mueller and Hutter 2021).

Operations and magnitudes are as in torchvision's transforms of these names, whose random numbers cannot follow from the
image's seed. A magnitude m is from 0 to 1; shears, rotations and colours are as likely in the other
direction.

    rand       n operations, m the same for all
    trivial    one operation, m uniform over 31 values
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from faceattr.config.augmentation import Augmentation, PolicyName
from faceattr.models.augment.draws import RandomNumbers

# Operation -> (largest magnitude of `rand`, of `trivial`, whether it has a direction).
_OPERATIONS: dict[str, tuple[float, float, bool]] = {
    "identity": (0.0, 0.0, False),
    "shear_x": (0.3, 0.99, True),
    "shear_y": (0.3, 0.99, True),
    "translate_x": (150 / 331, 32.0, True),  # rand: share of the side; trivial: px
    "translate_y": (150 / 331, 32.0, True),
    "rotate": (30.0, 135.0, True),  # degrees
    "brightness": (0.9, 0.99, True),
    "color": (0.9, 0.99, True),
    "contrast": (0.9, 0.99, True),
    "sharpness": (0.9, 0.99, True),
    "posterize": (4.0, 6.0, False),  # bits of 8 that are lost
    "solarize": (1.0, 1.0, False),  # share of the range that is inverted
    "autocontrast": (0.0, 0.0, False),
    "equalize": (0.0, 0.0, False),
}
# Those that move no pixel.
_LOOKS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "identity": lambda image, value: image,
    "brightness": lambda image, value: functional.adjust_brightness(image, 1 + value),
    "color": lambda image, value: functional.adjust_saturation(image, 1 + value),
    "contrast": lambda image, value: functional.adjust_contrast(image, 1 + value),
    "sharpness": lambda image, value: functional.adjust_sharpness(image, 1 + value),
    "posterize": lambda image, value: functional.posterize(image, 8 - round(value)),
    "solarize": lambda image, value: functional.solarize(image, 255 * (1 - value)),
    "autocontrast": lambda image, value: functional.autocontrast(image),
    "equalize": lambda image, value: functional.equalize(image),
}
_NAMES = tuple(_OPERATIONS)
_MOST = 30


def draw_operations(draws: RandomNumbers, augmentation: Augmentation) -> list[list[tuple[str, float]]]:
    """Draws for each image its operations in order: name, and magnitude from -1 to 1."""
    strength = augmentation.strength
    count = augmentation.policy_ops if augmentation.policy == "rand" else 1
    names = np.floor(draws.uniform_many(count, 0, len(_NAMES))).astype(int)
    signs = np.where(draws.uniform_many(count) < 0.5, -1, 1)
    steps = np.floor(draws.uniform_many(count, 0, _MOST + 1))
    if augmentation.policy == "rand":
        steps = np.full_like(steps, augmentation.policy_magnitude)
    magnitudes = np.minimum(1.0, strength * steps / _MOST)
    return [
        [
            (_NAMES[name], float(sign * magnitude if _OPERATIONS[_NAMES[name]][2] else magnitude))
            for name, sign, magnitude in zip(*row, strict=True)
        ]
        for row in zip(names, signs, magnitudes, strict=True)
    ]


def apply_operation(image: Tensor, name: str, magnitude: float, policy: PolicyName, *, fill: Sequence[int]) -> Tensor:
    """Applies one operation.

    Args:
        image: uint8 [3, S, S].
        name: the operation.
        magnitude: from -1 to 1.
        policy: whose magnitudes are meant.
        fill: colour of pixels that come from outside the image.

    Returns:
        uint8 [3, S, S].
    """
    value = magnitude * _OPERATIONS[name][0 if policy == "rand" else 1]
    side = image.shape[-1] if policy == "rand" else 1
    match name:
        case "shear_x":
            return _affine(image, fill, shear=[math.degrees(math.atan(value)), 0.0], center=[0.0, 0.0])
        case "shear_y":
            return _affine(image, fill, shear=[0.0, math.degrees(math.atan(value))], center=[0.0, 0.0])
        case "translate_x":
            return _affine(image, fill, translate=[int(value * side), 0])
        case "translate_y":
            return _affine(image, fill, translate=[0, int(value * side)])
        case "rotate":
            return functional.rotate(image, value, interpolation=InterpolationMode.BILINEAR, fill=list(fill))
        case _:
            return _LOOKS[name](image, value)


def _affine(
    image: Tensor,
    fill: Sequence[int],
    *,
    translate: Sequence[int] = (0, 0),
    shear: Sequence[float] = (0.0, 0.0),
    center: list[float] | None = None,
) -> Tensor:
    return functional.affine(
        image,
        angle=0.0,
        translate=list(translate),
        scale=1.0,
        shear=list(shear),
        interpolation=InterpolationMode.BILINEAR,
        fill=list(fill),
        center=center,
    )
