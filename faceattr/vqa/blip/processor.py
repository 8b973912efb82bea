"""A checkpoint's image processor, read from its settings; what is not reproduced here is refused.

The settings are `BlipImageProcessor`'s. `faceattr.vqa.blip.oracle.modules` compares the effect with that class's own.
"""

import json
import math
from pathlib import Path
from typing import Any

from faceattr.errors import ModelError
from faceattr.vqa.blip.preprocess import BlipPreprocessing

_FILE = "preprocessor_config.json"
# Newer checkpoints have all of a processor's settings in one file, in this group.
_COMBINED_FILE, _GROUP = "processor_config.json", "image_processor"
_BICUBIC = 3
# Defaults of `BlipImageProcessor` in transformers 5; mean and deviation are CLIP's.
_DEFAULTS: dict[str, Any] = {
    "size": {"height": 384, "width": 384},
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": _BICUBIC,
    "rescale_factor": 1 / 255,
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "do_center_crop": False,
}
_SHOWN = ("do_", "res", "crop")


def load_preprocessing(folder: Path) -> BlipPreprocessing:
    """Returns the preprocessing of a checkpoint.

    Raises:
        ModelError: the settings cannot be read, or say something that `resize_rgb` and `normalise` do not do.
    """
    settings = _DEFAULTS | {name: value for name, value in _read_settings(folder).items() if value is not None}
    preprocessing = _read_numbers(folder, settings)
    is_ours = (
        settings["do_resize"]
        and settings["do_rescale"]
        and settings["do_normalize"]
        and not settings["do_center_crop"]
        and settings["resample"] == _BICUBIC
        and math.isclose(settings["rescale_factor"], 1 / 255, rel_tol=1e-6)
    )
    if not is_ours:
        raise refusal(folder, preprocessing, settings)
    return preprocessing


def refusal(folder: Path, preprocessing: BlipPreprocessing, settings: dict[str, Any]) -> ModelError:
    """Returns the error for an image processor whose effect is not reproduced."""
    shown = {key: value for key, value in settings.items() if key.startswith(_SHOWN)}
    return ModelError(
        f"{folder}: the image processor does more or other than a bicubic resize to {preprocessing.size_px} px and "
        f"(x / 255 - mean) / std, which is all that is reproduced here; its settings are {shown}"
    )


def _read_settings(folder: Path) -> dict[str, Any]:
    try:
        combined = folder / _COMBINED_FILE
        if combined.is_file():
            content = json.loads(combined.read_text(encoding="utf-8"))
            if _GROUP in content:
                return dict(content[_GROUP])
        return dict(json.loads((folder / _FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{folder}: the image processor's settings cannot be read: {error}") from error


def _read_numbers(folder: Path, settings: dict[str, Any]) -> BlipPreprocessing:
    size = settings["size"]
    if not isinstance(size, dict):  # older files give one number for a square
        size = {"height": size, "width": size}
    height, width = size.get("height"), size.get("width")
    if not height or height != width:
        raise ModelError(f"{folder}: expected images resized to a fixed square, the image processor says size={size}")
    mean, std = tuple(settings["image_mean"]), tuple(settings["image_std"])
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ModelError(f"{folder}: expected three means and positive deviations, found mean={mean} std={std}")
    return BlipPreprocessing(size_px=int(height), mean=mean, std=std)
