"""The sizes of a CLIP or SigLIP model that a driver needs, read from config.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceattr.errors import ModelError

_USUAL = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "image_size": 224}
# Defaults of CLIPVisionConfig with CLIPConfig's projection_dim, and of SiglipVisionConfig, in transformers 5.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "clip": _USUAL | {"patch_size": 32, "projection_dim": 512},
    "siglip": _USUAL | {"patch_size": 16},
}


@dataclass(frozen=True, kw_only=True)
class VisionSizes:
    """Sizes of the vision tower.

    Attributes:
        image_px: side of the square images.
        patch_px: side of a patch.
        width: of its states.
        hidden: width inside the feed-forward layers.
        layers: number of layers.
        projection: width of CLIP's embeddings; None for SigLIP, which pools by attention and has no projection.
    """

    image_px: int
    patch_px: int
    width: int
    hidden: int
    layers: int
    projection: int | None


def read_vision_sizes(config: Mapping[str, Any], where: Path) -> VisionSizes:
    """Reads a config.json of the family `clip` or `siglip`.

    Raises:
        ModelError: a size is no number.
    """
    family = str(config["model_type"])
    vision = _DEFAULTS[family] | dict(config.get("vision_config") or {})
    projection = config.get("projection_dim", _DEFAULTS["clip"]["projection_dim"])
    try:
        return VisionSizes(
            image_px=int(vision["image_size"]),
            patch_px=int(vision["patch_size"]),
            width=int(vision["hidden_size"]),
            hidden=int(vision["intermediate_size"]),
            layers=int(vision["num_hidden_layers"]),
            projection=int(projection) if family == "clip" else None,
        )
    except (TypeError, ValueError) as error:
        raise ModelError(f"{where}: expected numbers for the sizes of the model: {error}") from error
