"""A random crop of each image, resized to the model's square and perhaps flipped."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from faceattr.config.augmentation import Augmentation
from faceattr.models.augment.draws import RandomNumbers
from faceattr.models.backbones.preprocessing import Preprocessing

# As torchvision: after that many boxes that do not fit into the image, its centre is taken.
_ATTEMPTS = 10


class RandomCrop:
    """torchvision's RandomResizedCrop and RandomHorizontalFlip, with one seed per image."""

    def __init__(self, preprocessing: Preprocessing, augmentation: Augmentation) -> None:
        self._size_px = preprocessing.size_px
        self._interpolation = InterpolationMode(preprocessing.interpolation)
        self._scale = max(0.1, 1 - augmentation.crop * augmentation.strength), 1.0
        self._ratio = 1 - augmentation.aspect, 1 + 1.2 * augmentation.aspect
        self._flip = augmentation.flip

    def __call__(self, images: Sequence[Tensor], seeds: Sequence[int]) -> Tensor:
        """Crops uint8 [3, H, W] each, sizes may differ -> uint8 [n, 3, S, S]."""
        side = self._size_px
        sizes = np.array([image.shape[-2:] for image in images], np.int64).reshape(-1, 2)
        boxes = draw_boxes(sizes, RandomNumbers(seeds, "crop"), scale=self._scale, ratio=self._ratio)
        flipped = RandomNumbers(seeds, "flip").happens(self._flip)
        views = torch.empty(len(images), 3, side, side, dtype=torch.uint8)
        for view, image, (top, left, height, width), is_flipped in zip(
            views, images, boxes.tolist(), flipped.tolist(), strict=True
        ):
            box = image[:, top : top + height, left : left + width]
            resized = functional.resize(box, [side, side], interpolation=self._interpolation, antialias=True)
            view.copy_(resized.flip(-1) if is_flipped else resized)
        return views


def draw_boxes(
    sizes: npt.NDArray[np.int64], draws: RandomNumbers, *, scale: tuple[float, float], ratio: tuple[float, float]
) -> npt.NDArray[np.int64]:
    """Draws a box inside each image: its share of the area uniformly, its aspect ratio uniformly in the logarithm.

    Args:
        sizes: [n, 2], height and width of the images in px.
        draws: random numbers.
        scale: least and largest share of the area.
        ratio: least and largest width per height.

    Returns:
        [n, 4]: top, left, height, width in px.
    """
    height, width = sizes[:, :1], sizes[:, 1:]
    area = draws.uniform_many(_ATTEMPTS, *scale) * height * width
    aspect = np.exp(draws.uniform_many(_ATTEMPTS, *np.log(ratio)))
    heights, widths = np.rint(np.sqrt(area / aspect)), np.rint(np.sqrt(area * aspect))
    fits = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)
    rows, first, found = np.arange(len(sizes)), fits.argmax(1), np.any(fits, axis=1)
    # Without a fit: the largest box in the middle with the ratio that is nearest to the image's.
    nearest = np.clip(sizes[:, 1] / sizes[:, 0], *ratio)
    box_height = np.where(found, heights[rows, first], np.minimum(sizes[:, 0], np.rint(sizes[:, 1] / nearest)))
    box_width = np.where(found, widths[rows, first], np.minimum(sizes[:, 1], np.rint(sizes[:, 0] * nearest)))
    room = sizes - np.stack([box_height, box_width], 1)
    places = np.where(found[:, None], np.floor(draws.uniform_many(2) * (room + 1)), room // 2)
    return np.concatenate([places, box_height[:, None], box_width[:, None]], 1).astype(np.int64)
