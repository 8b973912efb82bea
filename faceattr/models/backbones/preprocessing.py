"""Image preprocessing of a backbone as plain numbers: size, crop, interpolation, mean and standard deviation."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, cast, get_args

from faceattr.errors import ModelError

Interpolation = Literal["nearest", "bilinear", "bicubic", "nearest-exact"]
CropMode = Literal["center", "squash", "center_down"]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Resize, central crop to a square, then (x / 255 - mean) / std.

    Attributes:
        size_px: side S of the square model input.
        mean: mean per RGB channel, in units of x / 255.
        std: standard deviation per RGB channel, in the same units.
        interpolation: interpolation of the resize, which is antialiased.
        crop_mode: `center` resizes the shorter side and keeps the aspect ratio, `squash` resizes both sides.
            `center_down` is `center` whose crop begins half a pixel earlier where it cannot be in the very middle, as
            the image processors of transformers crop; `center` rounds as torchvision and timm do.
        crop_fraction: S over the resized side, in (0, 1]; the resized image is cropped to the central square.
    """

    size_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation = "bicubic"
    crop_mode: CropMode = "center"
    crop_fraction: float = 1.0

    def __post_init__(self) -> None:
        if self.size_px < 1 or len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ModelError(
                f"preprocessing: expected a size of at least 1 px, three means and three positive deviations, found "
                f"size_px={self.size_px} mean={self.mean} std={self.std}"
            )
        for name, value, kind in (
            ("interpolation", self.interpolation, Interpolation),
            ("crop_mode", self.crop_mode, CropMode),
        ):
            if value not in get_args(kind):
                raise ModelError(f"preprocessing: {name} is {value!r}; supported are {', '.join(get_args(kind))}")
        if not 0 < self.crop_fraction <= 1:
            raise ModelError(f"preprocessing: crop_fraction is {self.crop_fraction}; expected more than 0, at most 1")

    @property
    def resize_px(self) -> int:
        """Side to which an image is resized before the crop."""
        return math.floor(self.size_px / self.crop_fraction)

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON values; the inverse of `from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocessing":
        """Reads what `to_dict` wrote.

        Raises:
            ModelError: a value is missing, unknown or out of range.
        """
        known = {field.name for field in fields(cls)}
        if set(values) != known:
            raise ModelError(f"preprocessing: expected the keys {sorted(known)}, found {sorted(values)}")
        triples = {key: cast(tuple[float, float, float], tuple(values[key])) for key in ("mean", "std")}
        return cls(**{**values, **triples})
