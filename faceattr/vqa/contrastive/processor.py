"""A checkpoint's image processor, read from its settings; what is not reproduced here is refused.

The settings are as `CLIPImageProcessor` and `SiglipImageProcessor` have them; `faceattr.vqa.contrastive.modules`
compares the effect with those classes' own. Neither torch nor transformers is imported: drivers read a checkpoint's
facts.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from faceattr.errors import ModelError

ResizeMode = Literal["bilinear", "bicubic"]

_COMBINED_FILE, _GROUP = "processor_config.json", "image_processor"
_FILE = "preprocessor_config.json"
# PIL's codes, as the settings have them.
_INTERPOLATIONS: dict[Any, ResizeMode] = {2: "bilinear", 3: "bicubic"}
_USUAL: dict[str, Any] = {
    "resample": 3,
    "rescale_factor": 1 / 255,
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "do_pad": False,
}
# Defaults of the processors in transformers 5.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "CLIPImageProcessor": _USUAL
    | {
        "size": {"shortest_edge": 224},
        "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    },
    "SiglipImageProcessor": _USUAL
    | {
        "size": {"height": 224, "width": 224},
        "do_center_crop": False,
        "crop_size": None,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    },
}


@dataclass(frozen=True, kw_only=True)
class Framing:
    """How an image becomes the square that the model takes.

    Attributes:
        size_px: side S of the square.
        shortest_px: the shorter side is resized to this, and the centre is cropped; None: both sides are resized to S.
        interpolation: of the resize.
    """

    size_px: int
    shortest_px: int | None
    interpolation: ResizeMode


@dataclass(frozen=True, kw_only=True)
class ContrastivePreprocessing:
    """Preprocessing of a checkpoint's images: a square of uint8, then (x / 255 - mean) / std.

    Attributes:
        framing: how the square is made.
        mean: per RGB channel, in units of x / 255.
        std: per RGB channel, in units of x / 255.
    """

    framing: Framing
    mean: tuple[float, ...]
    std: tuple[float, ...]


def read_image_processor(folder: Path) -> ContrastivePreprocessing:
    """Returns the preprocessing of a checkpoint.

    Raises:
        ModelError: the settings cannot be read, or say something that is not reproduced.
    """
    found = _read_file(folder)
    named = found.get("image_processor_type") or found.get("feature_extractor_type") or "CLIPImageProcessor"
    # Names of earlier versions of transformers.
    name = str(named).replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast").removesuffix("Pil")
    if name not in _DEFAULTS:
        raise ModelError(f"{folder}: expected the image processor {' or '.join(_DEFAULTS)}, found {named!r}")
    settings = _DEFAULTS[name] | {key: value for key, value in found.items() if value is not None}
    framing = _read_framing(folder, settings)
    is_ours = (
        settings["do_resize"]
        and settings["do_rescale"]
        and settings["do_normalize"]
        and not settings["do_pad"]
        and math.isclose(settings["rescale_factor"], 1 / 255, rel_tol=1e-6)
    )
    mean, std = tuple(settings["image_mean"]), tuple(settings["image_std"])
    if not is_ours or len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise refuse_processor(folder, settings)
    return ContrastivePreprocessing(framing=framing, mean=mean, std=std)


def refuse_processor(folder: Path, settings: dict[str, Any]) -> ModelError:
    """Returns the error for an image processor whose effect is not reproduced."""
    starts = ("do_", "re", "crop", "size", "image_")
    shown = {key: value for key, value in settings.items() if key.startswith(starts)}
    return ModelError(
        f"{folder}: the image processor does more or other than a bilinear or bicubic resize, a central square crop "
        f"and normalisation, which is what is reproduced here; its settings are {shown}"
    )


def _read_framing(folder: Path, settings: dict[str, Any]) -> Framing:
    interpolation = _INTERPOLATIONS.get(settings["resample"])
    size, crop = settings["size"], settings["crop_size"] if settings["do_center_crop"] else None
    # Older files give one number: the shorter side of a resize, both sides of a crop.
    size = {"shortest_edge": size} if isinstance(size, int) else size
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    side = size.get("height")
    if interpolation is None:
        raise refuse_processor(folder, settings)
    if crop is None and set(size) == {"height", "width"} and side == size["width"]:
        return Framing(size_px=side, shortest_px=None, interpolation=interpolation)
    if crop is not None and set(size) == {"shortest_edge"}:
        side, shortest = crop["height"], size["shortest_edge"]
        if side == crop["width"] and side <= shortest:
            return Framing(size_px=side, shortest_px=shortest, interpolation=interpolation)
    raise refuse_processor(folder, settings)


def _read_file(folder: Path) -> dict[str, Any]:
    try:
        combined = folder / _COMBINED_FILE
        if combined.is_file():
            content = json.loads(combined.read_text(encoding="utf-8"))
            if _GROUP in content:
                return dict(content[_GROUP])
        return dict(json.loads((folder / _FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{folder}: the image processor's settings cannot be read: {error}") from error
