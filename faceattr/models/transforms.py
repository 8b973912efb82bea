"""Decoded images to what a backbone takes: uint8 all the way, floats only at the end, on the model's device.

    eval    resize, central crop                                             -> Normalise
    train   random crop, flip, colours, blur, rain, fog; from a seed          -> Normalise

Images travel between processes as uint8, a quarter of the bytes. A training image depends on nothing but the decoded
image, the settings and its seed, so that the number of workers, their order and a resume change nothing.
"""

import hashlib

import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2

from faceattr.config.augmentation import Augmentation
from faceattr.models.backbones.preprocessing import Preprocessing
from faceattr.models.weather import RandomFog, RandomRain

# Longer side over the shorter one, up to which an image is resized whole.
_MAX_ASPECT = 16


class Normalise(nn.Module):
    """(x / 255 - mean) / std, on whatever device the images are; move it there with `.to(device)`."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(preprocessing.std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [..., 3, S, S] -> float32 [..., 3, S, S]."""
        _check_pixels(images)
        return (images.float() / 255 - self.mean) / self.deviation


class EvalTransform(nn.Module):
    """Resize and central crop as the backbone was trained with."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        side = preprocessing.resize_px
        self.resize = v2.Resize(
            [side, side] if preprocessing.crop_mode == "squash" else side,
            interpolation=InterpolationMode(preprocessing.interpolation),
            antialias=True,
        )
        self.crop = v2.CenterCrop(preprocessing.size_px)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [..., 3, H, W] -> uint8 [..., 3, S, S]."""
        _check_pixels(images)
        if self.preprocessing.crop_mode == "center":
            images = _without_far_ends(images)
        return self.crop(self.resize(images))


class TrainTransform:
    """Random views of one image for training; see `Augmentation`."""

    def __init__(self, preprocessing: Preprocessing, augmentation: Augmentation | None = None) -> None:
        self.preprocessing = preprocessing
        self.augmentation = augmentation or Augmentation()
        self._plain = EvalTransform(preprocessing)
        self._steps = _build_steps(preprocessing, self.augmentation)

    def __call__(self, image: Tensor, *, seed: int) -> Tensor:
        """One view of one image.

        Args:
            image: uint8 [3, H, W].
            seed: from `image_seed`; the same seed gives the same view.

        Returns:
            uint8 [3, S, S]; what `EvalTransform` gives where the strength is 0.
        """
        _check_pixels(image)
        if image.ndim != 3:
            raise ValueError(f"expected one image [3, H, W], since each has its own seed, found {list(image.shape)}")
        if self.augmentation.strength == 0:
            return self._plain(image)
        # torchvision draws from the global generator only; the caller's state is put back.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._steps(image)


def image_seed(seed: int, *, epoch: int, row: int) -> int:
    """Seed of one image in one epoch of a run, from 0 to 2**63 - 1; close inputs give unrelated seeds."""
    digest = hashlib.blake2b(f"{seed} {epoch} {row}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _build_steps(preprocessing: Preprocessing, augmentation: Augmentation) -> nn.Module:
    size, strength = preprocessing.size_px, augmentation.strength
    color = min(0.9, augmentation.color * strength)
    steps: list[nn.Module] = [
        v2.RandomResizedCrop(
            size,
            scale=(max(0.1, 1 - augmentation.crop * strength), 1.0),
            ratio=(1 - augmentation.aspect, 1 + 1.2 * augmentation.aspect),
            interpolation=InterpolationMode(preprocessing.interpolation),
            antialias=True,
        ),
        v2.RandomHorizontalFlip(augmentation.flip),
        v2.ColorJitter(brightness=color, contrast=color, saturation=color, hue=color / 10),
    ]
    if augmentation.blur:
        # A kernel of about a tenth of the side, odd.
        blur = v2.GaussianBlur(max(3, size // 10 | 1), sigma=(0.1, 0.1 + 0.01 * size * strength))
        steps.append(v2.RandomApply([blur], p=min(1.0, augmentation.blur * strength)))
    if augmentation.rain:
        steps.append(RandomRain(min(1.0, augmentation.rain * strength), strength))
    if augmentation.fog:
        steps.append(RandomFog(min(1.0, augmentation.fog * strength), strength))
    return nn.Sequential(*steps)


def _without_far_ends(images: Tensor) -> Tensor:
    """Cuts the ends of strips, which the central crop would cut after the resize had made them huge.

    A strip of 1 x 4,000 px resized to a shorter side of 224 would have 896,000 x 224 px.
    """
    height, width = images.shape[-2:]
    most = _MAX_ASPECT * min(height, width)
    if max(height, width) <= most:
        return images
    return v2.functional.center_crop(images, [min(height, most), min(width, most)])


def _check_pixels(images: Tensor) -> None:
    if images.dtype != torch.uint8 or images.ndim < 3 or images.shape[-3] != 3:
        raise ValueError(f"expected uint8 images [..., 3, H, W], found {images.dtype} {list(images.shape)}")
