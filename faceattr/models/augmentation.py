"""What training images go through, as plain numbers; `faceattr.models.transforms` does it."""

from dataclasses import dataclass
from typing import Literal

from faceattr.errors import ConfigError

_LIMITS = {"strength": 2.0, "flip": 1.0, "crop": 0.5, "color": 0.5, "blur": 1.0, "rain": 1.0, "fog": 1.0}


@dataclass(frozen=True, kw_only=True)
class AugmentSettings:
    """Random views of training images. It knows no attribute."""

    strength: float | Literal["auto"] = "auto"
    """Scales all of it but the flip; 0 turns everything off, the flip too, 1 is usual, at most 2. auto: by what the
    training starts from, its length and the number of images."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    crop: float = 0.3
    """Largest share of the area that a random crop leaves out, in [0, 0.5], at strength 1."""
    color: float = 0.3
    """Largest relative change of brightness, contrast and saturation, in [0, 0.5]; hue changes by a tenth."""
    blur: float = 0.1
    """Probability of a Gaussian blur."""
    rain: float = 0.0
    """Probability of rain."""
    fog: float = 0.0
    """Probability of fog."""

    def __post_init__(self) -> None:
        for name, most in _LIMITS.items():
            value = getattr(self, name)
            if (name, value) != ("strength", "auto") and not 0 <= value <= most:
                raise ConfigError(f"--augment.{name}: expected 0 to {most:g}, found {value!r}")


@dataclass(frozen=True, kw_only=True)
class Augmentation(AugmentSettings):
    """Random views of training images, with nothing left to choose: what the transforms read."""

    strength: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.strength, str):
            raise ConfigError(
                f"--augment.strength: expected a number, once a recipe is resolved, found {self.strength!r}"
            )
