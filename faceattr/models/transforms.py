"""Transforms decoded images into model input: uint8 until the end, normalised to float on the model's device.

    eval    resize, central crop                                             -> Normalise
    train   random crop, flip, colours, blur, rain, fog; from a seed          -> Normalise

Images travel between processes as uint8, a quarter of the bytes of float32. A training image depends only on the
decoded image, the settings and its seed, so that the number of workers, their order and a resume change nothing.

Rain and fog on face images, the hard conditions of FaceCom. Randomness is torch's global generator.
"""

import hashlib
import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2

from faceattr.config.augmentation import Augmentation
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
        _check_pixels(images)
        return (images.float() / 255 - self.mean) / self.deviation


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
        self.crop = v2.CenterCrop(preprocessing.size_px)

    def forward(self, images: Tensor) -> Tensor:
        """Resizes and crops uint8 [..., 3, H, W] -> uint8 [..., 3, S, S]."""
        _check_pixels(images)
        if self.preprocessing.crop_mode == "center":
            images = _without_far_ends(images)
        return self.crop(self.resize(images))


class TrainTransform:
    """Random augmentations of one image for training; see `Augmentation`."""

    def __init__(self, preprocessing: Preprocessing, augmentation: Augmentation | None = None) -> None:
        self.preprocessing = preprocessing
        self.augmentation = augmentation or Augmentation()
        self._plain = EvalTransform(preprocessing)
        self._steps = _build_steps(preprocessing, self.augmentation)

    def __call__(self, image: Tensor, *, seed: int) -> Tensor:
        """Returns one random view of one image.

        Args:
            image: uint8 [3, H, W].
            seed: seed from `image_seed`; the same seed gives the same view.

        Returns:
            uint8 [3, S, S]; equal to `EvalTransform` if the strength is 0.
        """
        _check_pixels(image)
        if image.ndim != 3:
            raise ValueError(f"expected one image [3, H, W], since each has its own seed, found {list(image.shape)}")
        if self.augmentation.strength == 0:
            return self._plain(image)
        # torchvision draws from the global generator only; the caller's state is restored.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._steps(image)


def image_seed(seed: int, *, epoch: int, row: int) -> int:
    """Returns the seed of one image in one epoch of a run, from 0 to 2**63 - 1; close inputs give unrelated seeds."""
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
        # Odd kernel size of about a tenth of the side.
        blur = v2.GaussianBlur(max(3, size // 10 | 1), sigma=(0.1, 0.1 + 0.01 * size * strength))
        steps.append(v2.RandomApply([blur], p=min(1.0, augmentation.blur * strength)))
    if augmentation.rain:
        steps.append(RandomRain(min(1.0, augmentation.rain * strength), strength))
    if augmentation.fog:
        steps.append(RandomFog(min(1.0, augmentation.fog * strength), strength))
    return nn.Sequential(*steps)


def _without_far_ends(images: Tensor) -> Tensor:
    """Cuts off the ends of very elongated images; the central crop would remove them after a huge resize.

    An image of 1 x 4,000 px resized to a shorter side of 224 would have 896,000 x 224 px.
    """
    height, width = images.shape[-2:]
    most = _MAX_ASPECT * min(height, width)
    if max(height, width) <= most:
        return images
    return v2.functional.center_crop(images, [min(height, most), min(width, most)])


def _check_pixels(images: Tensor) -> None:
    if images.dtype != torch.uint8 or images.ndim < 3 or images.shape[-3] != 3:
        raise ValueError(f"expected uint8 images [..., 3, H, W], found {images.dtype} {list(images.shape)}")


_LIGHT_GRAY = 225.0


class RandomRain(nn.Module):
    """Draws bright slanted streaks with probability p.

    Density, length and opacity grow with `strength` (0 to about 2).
    """

    def __init__(self, p: float, strength: float = 1.0) -> None:
        super().__init__()
        self.p = p
        self.strength = strength

    def forward(self, image: Tensor) -> Tensor:
        """Draws rain on uint8 [3, H, W] with probability p; the shape does not change."""
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
    """Blends patchy light gray haze over an image with probability p; grows with `strength` (0 to about 2)."""

    def __init__(self, p: float, strength: float = 1.0) -> None:
        super().__init__()
        self.p = p
        self.strength = strength

    def forward(self, image: Tensor) -> Tensor:
        """Draws fog on uint8 [3, H, W] with probability p; the shape does not change."""
        if not _happens(self.p):
            return image
        return add_fog(image, thickness=min(0.85, 0.45 * self.strength * _uniform(0.6, 1.4)))


def add_rain(image: Tensor, *, density: float, length_px: int, angle_deg: float, opacity: float) -> Tensor:
    """Draws rain streaks.

    Args:
        image: uint8 [3, H, W].
        density: drops per pixel.
        length_px: length of a streak in px.
        angle_deg: angle of the streaks from the vertical, in degrees.
        opacity: opacity of a streak, from 0 to 1.

    Returns:
        uint8 [3, H, W].
    """
    height, width = image.shape[-2:]
    drops = (torch.rand(1, 1, height, width) < density).float()
    size = length_px + 1 - length_px % 2  # an odd kernel keeps the position
    # Each drop becomes a line: a pixel's distance from that line, faded over one pixel.
    offsets = torch.arange(size, dtype=torch.float32) - size // 2
    slope = math.radians(angle_deg)
    distance = (offsets[None, :] * math.cos(slope) - offsets[:, None] * math.sin(slope)).abs()
    kernel = (1 - distance).clamp(min=0)
    streaks = F.conv2d(drops, kernel[None, None], padding=size // 2)[0].clamp(max=1).to(image.device)
    return _blend(image, streaks * opacity)


def add_fog(image: Tensor, *, thickness: float) -> Tensor:
    """Blends an image towards light gray by a smooth random field.

    Args:
        image: uint8 [3, H, W].
        thickness: mean share of gray, from 0 to 1.

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
