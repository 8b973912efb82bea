"""The transform of training images."""

from collections.abc import Sequence

import torch
from torch import Tensor

from faceattr.config.augmentation import Augmentation
from faceattr.models.augment.crop import RandomCrop
from faceattr.models.augment.looks import RandomLooks
from faceattr.models.backbones.preprocessing import Preprocessing
from faceattr.models.transforms import EvalTransform, check_pixels

VIEWS_VERSION = 2
"""To be incremented by hand when a change of the code can change a view."""
AS_STORED = Augmentation(strength=0)
"""No random view: images as in validation."""


class TrainTransform:
    """Random views of images for training; see `Augmentation`."""

    def __init__(self, preprocessing: Preprocessing, augmentation: Augmentation | None = None) -> None:
        self.augmentation = augmentation or Augmentation()
        self._plain = EvalTransform(preprocessing)
        self._crop = RandomCrop(preprocessing, self.augmentation)
        # After normalisation this colour is 0.
        fill = [round(255 * each) for each in preprocessing.mean]
        self._look = RandomLooks(preprocessing.size_px, self.augmentation, fill)

    def __call__(self, images: Sequence[Tensor], *, seeds: Sequence[int]) -> Tensor:
        """Returns one random view of each image, on the CPU.

        Args:
            images: uint8 [3, H, W] each; sizes may differ.
            seeds: seeds of the images from `image_seed`; the same seed gives the same view.

        Returns:
            uint8 [n, 3, S, S]; equal to `EvalTransform` if the strength is 0.
        """
        return self.finish(self.crop(images, seeds=seeds), seeds=seeds)

    def crop(self, images: Sequence[Tensor], *, seeds: Sequence[int]) -> Tensor:
        """Crops and flips: the half that needs the images as they were stored; arguments and result as above."""
        for image in images:
            check_pixels(image)
            if image.ndim != 3:
                raise ValueError(f"expected images [3, H, W], one seed each, found {list(image.shape)}")
        if self.augmentation.strength == 0:
            return torch.stack([self._plain(image) for image in images])
        return self._crop(images, seeds)

    def finish(self, views: Tensor, *, seeds: Sequence[int]) -> Tensor:
        """Changes colours, blurs, adds rain and fog, applies a policy, erases: the other half, on the views' device.

        Args:
            views: uint8 [n, 3, S, S] from `crop`.
            seeds: the same seeds.

        Returns:
            uint8 [n, 3, S, S].
        """
        return views if self.augmentation.strength == 0 else self._look(views, seeds)
