"""Settings of image augmentation, as plain numbers; `faceattr.models.augment` applies them."""

from dataclasses import dataclass, field
from typing import Literal

from faceattr.config.checks import check, check_choice, flag_name
from faceattr.errors import ConfigError

AUTO_AUGMENT = ("strength", "aspect")
"""Settings that may be `auto`."""
ASPECT = 0.15
"""Largest relative change of the aspect ratio at strength 1."""
PolicyName = Literal["none", "rand", "trivial"]
_LIMITS = {
    **{"strength": 2.0, "flip": 1.0, "crop": 0.5, "aspect": 0.5, "color": 0.5, "blur": 1.0, "rain": 1.0, "fog": 1.0},
    **{"erasing": 1.0, "policy_magnitude": 30.0},
}
_MOST_OPS = 10


@dataclass(frozen=True, kw_only=True)
class AugmentSettings:
    """Random views of training images, the same for all attributes."""

    strength: float | Literal["auto"] = "auto"
    """Scale of all settings below except flip and aspect. 1 is usual, at most 2; 0 turns augmentation off, flip and
    aspect included. auto: chosen from the starting weights, the length of the training and the number of images."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    crop: float = 0.3
    """Largest share of the image's area that a random crop removes at strength 1, in [0, 0.5]."""
    aspect: float | Literal["auto"] = field(default="auto", metadata={"before": ASPECT})
    """Largest relative change of the aspect ratio, in [0, 0.5]; strength does not scale it. auto: 0.15 times
    strength."""
    color: float = 0.3
    """Largest relative change of brightness, contrast and saturation, in [0, 0.5]; hue changes by a tenth of it."""
    blur: float = 0.1
    """Probability of a Gaussian blur."""
    rain: float = 0.0
    """Probability of rain."""
    fog: float = 0.0
    """Probability of fog."""
    policy: PolicyName = field(default="none", metadata={"before": "none"})
    """Random operations in addition to these: `rand`, RandAugment with --augment.policy-ops operations of
    --augment.policy-magnitude each; `trivial`, TrivialAugment, one operation of a random magnitude. They include strong
    rotations, shears and colours, whose magnitude strength scales."""
    policy_ops: int = field(default=2, metadata={"before": 2})
    """rand: number of operations per image, from 1 to 10."""
    policy_magnitude: float = field(default=9.0, metadata={"before": 9.0})
    """rand: magnitude of the operations, from 0 to 30."""
    erasing: float = field(default=0.0, metadata={"before": 0.0})
    """Probability that a random rectangle, 2 to 33 % of the image, is filled with the mean colour (random erasing)."""

    def __post_init__(self) -> None:
        for name, most in _LIMITS.items():
            value = getattr(self, name)
            if not (value == "auto" and name in AUTO_AUGMENT) and not 0 <= value <= most:
                raise ConfigError(f"--augment.{flag_name(name)}: expected 0 to {most:g}, found {value!r}")
        check_choice("augment.policy", self.policy, PolicyName)
        check(1 <= self.policy_ops <= _MOST_OPS, "augment.policy-ops", self.policy_ops, f"1 to {_MOST_OPS}")


@dataclass(frozen=True, kw_only=True)
class Augmentation(AugmentSettings):
    """Augmentation without any `auto`: what the transforms read."""

    strength: float = 1.0
    aspect: float = field(default=ASPECT, metadata={"before": ASPECT})

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in AUTO_AUGMENT:
            if getattr(self, name) == "auto":
                raise ConfigError(f"--augment.{name}: expected a number, once a recipe is resolved, found auto")
