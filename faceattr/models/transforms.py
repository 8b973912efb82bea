"""Transforms decoded images into model input: uint8 until the end, normalised to float on the model's device.

    eval    resize, central crop                                   -> Normalise
    train   random views (`faceattr.models.augment`)               -> Normalise

Images travel between processes as uint8, a quarter of the bytes of float32.
"""

import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2

from faceattr.models.backbones.preprocessing import Preprocessing

# Largest ratio of longer to shorter side at which an image is resized whole.
_MAX_ASPECT = 16


class Normalise(nn.Module):
    """(x / 255 - mean) / std, on the device of the images; move the module there with `.to(device)`."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(preprocessing.std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalises uint8 [..., 3, S, S] -> float32 [..., 3, S, S]."""
        check_pixels(images)
        return (images.float() / 255 - self.mean) / self.deviation


class _CropDown(nn.Module):
    """Crops the central square; its corner is rounded down, where `CenterCrop` rounds a half to the even number."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, images: Tensor) -> Tensor:
        top, left = ((length - self.side) // 2 for length in images.shape[-2:])
        return images[..., top : top + self.side, left : left + self.side]


class EvalTransform(nn.Module):
    """Resize and central crop, as in the backbone's training."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        side = preprocessing.resize_px
        self.resize = v2.Resize(
            [side, side] if preprocessing.crop_mode == "squash" else side,
            interpolation=InterpolationMode(preprocessing.interpolation),
            antialias=True,
        )
        self.crop = (
            _CropDown(preprocessing.size_px)
            if preprocessing.crop_mode == "center_down"
            else v2.CenterCrop(preprocessing.size_px)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Resizes and crops uint8 [..., 3, H, W] -> uint8 [..., 3, S, S]."""
        check_pixels(images)
        if self.preprocessing.crop_mode != "squash":
            images = _without_far_ends(images)
        return self.crop(self.resize(images))


def _without_far_ends(images: Tensor) -> Tensor:
    """Cuts off the ends of very elongated images; the central crop would remove them after a huge resize.

    An image of 1 x 4,000 px resized to a shorter side of 224 would have 896,000 x 224 px.
    """
    height, width = images.shape[-2:]
    most = _MAX_ASPECT * min(height, width)
    if max(height, width) <= most:
        return images
    return v2.functional.center_crop(images, [min(height, most), min(width, most)])


def check_pixels(images: Tensor) -> None:
    """Raises ValueError unless the images are uint8 [..., 3, H, W]."""
    if images.dtype != torch.uint8 or images.ndim < 3 or images.shape[-3] != 3:
        raise ValueError(f"expected uint8 images [..., 3, H, W], found {images.dtype} {list(images.shape)}")
