"""The key of a feature cache: everything that determines the activations. Another value means another cache."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from faceattr.config import PrecisionChoice
from faceattr.config.augmentation import Augmentation
from faceattr.config.fit import compute_fingerprint
from faceattr.errors import ConfigError
from faceattr.models.augment.train import VIEWS_VERSION
from faceattr.models.backbones.preprocessing import Preprocessing

FeatureType = Literal["float32", "float16", "bfloat16"]

# To be incremented by hand when a code change can change an activation or the file layout.
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class View:
    """One random augmentation of every image.

    Attributes:
        number: takes the place of the epoch in an image's seed; see `faceattr.models.augment.draws.image_seed`.
        seed: seed of the run.
        augment: augmentation settings.
        version: version of the code that makes views.
    """

    number: int
    seed: int
    augment: Augmentation
    version: int = field(default=VIEWS_VERSION, metadata={"before": 1})


@dataclass(frozen=True, kw_only=True)
class FeatureKey:
    """Everything that an image's activations depend on, other than the image.

    Attributes:
        weights_id: hash of the blocks before the boundary, from `FrozenPrefix.compute_weights_id`.
        boundary: number of these blocks.
        preprocessing: image preprocessing.
        precision: dtype of the blocks' computation, not `auto`.
        dtype: dtype of the stored activations.
        data_fingerprint: fingerprint of the packed runs.
        view: the augmentation; None for images as in validation.
    """

    weights_id: str
    boundary: int
    preprocessing: Preprocessing
    precision: PrecisionChoice
    dtype: FeatureType
    data_fingerprint: str
    view: View | None = None

    def __post_init__(self) -> None:
        if self.dtype not in get_args(FeatureType):
            raise ConfigError(f"features: dtype is {self.dtype!r}; expected {', '.join(get_args(FeatureType))}")
        if self.precision == "auto":
            raise ConfigError("features: precision is auto; expected that of a device")

    @property
    def digest(self) -> str:
        """Name of the cache's folder: 24 hexadecimal digits."""
        return compute_fingerprint(_VERSION, self)[:24]

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values, for people and for comparisons."""
        return {"version": _VERSION, **asdict(self)}
