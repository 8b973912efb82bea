"""What decides the activations at a freezing boundary: the key of their cache. Change any of it, and it is another."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from faceattr.config import Precision
from faceattr.config.augmentation import Augmentation
from faceattr.config.fit import compute_fingerprint
from faceattr.errors import ConfigError
from faceattr.models.backbones.preprocessing import Preprocessing

FeatureType = Literal["float32", "float16", "bfloat16"]

# Raised by hand when a change of ours can change an activation or the layout of the files.
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class View:
    """One random view of every image.

    Attributes:
        number: stands for the epoch in the seed of an image, see `faceattr.models.transforms.image_seed`.
        seed: of the run.
        augment: how images are changed.
    """

    number: int
    seed: int
    augment: Augmentation


@dataclass(frozen=True, kw_only=True)
class FeatureKey:
    """All that the activations of an image depend on, besides the image.

    Attributes:
        weights_id: of the blocks before the boundary, from `FrozenPrefix.compute_weights_id`.
        boundary: number of these blocks.
        preprocessing: of the images.
        precision: type that the blocks compute in.
        dtype: type that activations are stored in.
        data_fingerprint: of the packed runs.
        view: None for images as they are validated.
    """

    weights_id: str
    boundary: int
    preprocessing: Preprocessing
    precision: Precision
    dtype: FeatureType
    data_fingerprint: str
    view: View | None = None

    def __post_init__(self) -> None:
        if self.dtype not in get_args(FeatureType):
            raise ConfigError(f"features: dtype is {self.dtype!r}; expected {', '.join(get_args(FeatureType))}")

    @property
    def digest(self) -> str:
        """Name of the cache's folder: 24 hex digits."""
        return compute_fingerprint(_VERSION, self)[:24]

    def to_json(self) -> dict[str, Any]:
        """For people and for comparisons."""
        return {"version": _VERSION, **asdict(self)}
