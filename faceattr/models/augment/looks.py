"""How training images look: random colours, blur, rain, fog, policies and erasing, on the images' device."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from faceattr.config.augmentation import Augmentation
from faceattr.models.augment.blur import gaussian_blur
from faceattr.models.augment.colors import change_colors
from faceattr.models.augment.crop import draw_boxes
from faceattr.models.augment.draws import Floats, RandomNumbers
from faceattr.models.augment.policy import apply_operation, draw_operations
from faceattr.models.augment.weather import add_fog, add_rain

# Images at a time on a CPU: the numbers of one stay in its caches.
_CPU_STEP = 1
# Share of the area, and width per height, of an erased rectangle (Zhong et al. 2020), as in torchvision.
_ERASED_SCALE = 0.02, 0.33
_ERASED_RATIO = 0.3, 3.3


class RandomLooks:
    """Changes images that are cropped already; see `Augmentation` for what strength does.

    Args:
        size_px: side of the images.
        augmentation: the settings.
        fill: colour, from 0 to 255, of areas that have none: erased ones, and those outside a rotated image.
    """

    def __init__(self, size_px: int, augmentation: Augmentation, fill: Sequence[int] = (128, 128, 128)) -> None:
        self._augmentation = augmentation
        strength = augmentation.strength
        self._color = min(0.9, augmentation.color * strength)
        # Odd kernel size of about a tenth of the side.
        self._kernel_px = max(3, size_px // 10 | 1)
        self._sigma_px = 0.1, 0.1 + 0.01 * size_px * strength
        self._fill = list(fill)

    def __call__(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        """Returns changed copies.

        Args:
            images: uint8 [n, 3, S, S].
            seeds: seeds of the images from `image_seed`.

        Returns:
            uint8 [n, 3, S, S], on the same device.
        """
        looks = images.clone()
        if self._color:
            self._change_colors(looks, RandomNumbers(seeds, "color"))
        if self._augmentation.blur:
            self._blur(looks, RandomNumbers(seeds, "blur"))
        if self._augmentation.rain:
            self._rain(looks, RandomNumbers(seeds, "rain"), seeds)
        if self._augmentation.fog:
            self._fog(looks, RandomNumbers(seeds, "fog"), seeds)
        if self._augmentation.policy != "none":
            self._apply_policy(looks, RandomNumbers(seeds, "policy"))
        if self._augmentation.erasing:
            self._erase(looks, RandomNumbers(seeds, "erasing"))
        return looks

    # What follows changes the images in place.

    def _change_colors(self, images: Tensor, draws: RandomNumbers) -> None:
        change, turn = self._color, self._color / 10
        factors = [draws.uniform(1 - change, 1 + change) for _ in range(3)]
        brightness, contrast, saturation, hue = _to_tensors(images, *factors, draws.uniform(-turn, turn))
        for part in _parts(images):
            images[part] = change_colors(
                images[part],
                brightness=brightness[part],
                contrast=contrast[part],
                saturation=saturation[part],
                hue=hue[part],
            )

    def _blur(self, images: Tensor, draws: RandomNumbers) -> None:
        happens = draws.happens(self._probability(self._augmentation.blur))
        (sigma_px,) = _to_tensors(images, draws.uniform(*self._sigma_px))
        rows = torch.from_numpy(np.flatnonzero(happens)).to(images.device)
        for part in _parts(rows):
            at = rows[part]
            images[at] = gaussian_blur(images[at], kernel_px=self._kernel_px, sigma_px=sigma_px[at])

    def _rain(self, images: Tensor, draws: RandomNumbers, seeds: Sequence[int]) -> None:
        strength = self._augmentation.strength
        happens = draws.happens(self._probability(self._augmentation.rain))
        density = 0.004 * strength * draws.uniform(0.5, 1.5)
        length_px = np.maximum(3, np.rint(images.shape[-2] * 0.06 * strength * draws.uniform(0.7, 1.3))).astype(int)
        angle_deg = draws.uniform(-25.0, 25.0)
        opacity = np.minimum(0.9, 0.5 * strength * draws.uniform(0.7, 1.2))
        for row in np.flatnonzero(happens).tolist():
            images[row] = add_rain(
                images[row],
                density=float(density[row]),
                length_px=int(length_px[row]),
                angle_deg=float(angle_deg[row]),
                opacity=float(opacity[row]),
                generator=torch.Generator().manual_seed(seeds[row]),
            )

    def _fog(self, images: Tensor, draws: RandomNumbers, seeds: Sequence[int]) -> None:
        happens = draws.happens(self._probability(self._augmentation.fog))
        thickness = np.minimum(0.85, 0.45 * self._augmentation.strength * draws.uniform(0.6, 1.4))
        for row in np.flatnonzero(happens).tolist():
            generator = torch.Generator().manual_seed(seeds[row])
            images[row] = add_fog(images[row], thickness=float(thickness[row]), generator=generator)

    def _apply_policy(self, images: Tensor, draws: RandomNumbers) -> None:
        operations = draw_operations(draws, self._augmentation)
        for image, drawn in zip(images, operations, strict=True):
            changed = image
            for name, magnitude in drawn:
                changed = apply_operation(changed, name, magnitude, self._augmentation.policy, fill=self._fill)
            image.copy_(changed)

    def _erase(self, images: Tensor, draws: RandomNumbers) -> None:
        happens = draws.happens(self._probability(self._augmentation.erasing))
        boxes = draw_boxes(
            np.array([images.shape[-2:]] * len(images), np.int64), draws, scale=_ERASED_SCALE, ratio=_ERASED_RATIO
        )
        for row in np.flatnonzero(happens).tolist():
            top, left, height, width = boxes[row].tolist()
            colour = images.new_tensor(self._fill)[:, None, None]
            functional.erase(images[row], top, left, height, width, colour, inplace=True)

    def _probability(self, setting: float) -> float:
        return min(1.0, setting * self._augmentation.strength)


def _parts(images: Tensor) -> Iterator[slice]:
    """Yields slices over the first dimension: all at once on a GPU."""
    step = _CPU_STEP if images.device.type == "cpu" else max(1, len(images))
    for start in range(0, len(images), step):
        yield slice(start, start + step)


def _to_tensors(images: Tensor, *values: Floats) -> tuple[Tensor, ...]:
    """Returns float32 copies on the device of the images."""
    return tuple(torch.from_numpy(each.astype(np.float32)).to(images.device) for each in values)
