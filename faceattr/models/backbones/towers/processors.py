"""The image processor of a checkpoint of transformers, as our `Preprocessing`: the same pixels reach the network.

Supported is every processor that runs transformers' usual steps, and those that have a row in `_OWN_STEPS`:

    resize (the shorter side, or both) -> central crop -> x * factor -> (x - mean) / std

transformers resizes uint8 with torchvision, as `EvalTransform` does, so that the pixels are equal. DINOv3's processor
resizes in float, which differs by less than one level of 255.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers.image_processing_backends import TorchvisionBackend
from transformers.models.auto.image_processing_auto import get_image_processor_class_from_name

from faceattr.errors import ModelError
from faceattr.models.backbones.preprocessing import CropMode, Interpolation, Preprocessing

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
# PIL's resampling codes, as image processors store them.
_RESAMPLING: dict[int, Interpolation] = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}
# The steps of a processor that a subclass may define otherwise.
_STEPS = ("_preprocess", "resize", "center_crop", "rescale", "normalize", "rescale_and_normalize")
# The processor of checkpoints whose file does not name one.
_OLDEST = "CLIPImageProcessor"
# ConvNeXt's processor crops images that it makes smaller than this, and squashes larger ones.
_CONVNEXT_SQUASH_PX = 384
_Geometry = tuple[int, int, CropMode]
"""Side of the result in px, side before the crop, and what is resized to the latter."""


def read_preprocessing(folder: Path, *, is_clip: bool = False) -> Preprocessing:
    """Reads the image processor that is saved with a checkpoint.

    Args:
        folder: folder of the checkpoint.
        is_clip: whether it is a CLIP tower. These were cropped as torchvision does before there were other towers here,
            and stay so, that a training goes on with the same images; the crops differ by a pixel at most.

    Raises:
        ModelError: there is none, or it does something other than resize, central crop and normalise.
    """
    path = next((folder / name for name in PROCESSOR_FILES if (folder / name).is_file()), None)
    if path is None:
        raise ModelError(
            f"{folder}: found no preprocessor_config.json, which says how images are resized and normalised; save it "
            "there with `AutoImageProcessor.from_pretrained(SOURCE).save_pretrained(folder)`"
        )
    settings = read_json_object(path)
    settings = settings.get("image_processor", settings)
    processor = _load_processor(settings, path)
    name = type(processor).__name__
    for switch in ("do_resize", "do_rescale"):
        if not getattr(processor, switch):
            raise ModelError(f"{path}: {switch} is false; only the usual steps of an image processor are reproduced")
    resample = processor.resample
    if resample not in _RESAMPLING:
        raise ModelError(
            f"{path}: resample is {resample!r}; expected a nearest (0), bilinear (2) or bicubic resize (3)"
        )
    try:
        side, resized, mode = _OWN_STEPS.get(name, _usual_geometry)(processor)
    except ValueError as error:
        raise ModelError(f"{path}: {name}: {error}") from error
    if is_clip and mode == "center_down":
        mode = "center"
    if side > resized:
        raise ModelError(f"{path}: crop_size {side} px is larger than the resized image of {resized} px")
    mean, std = _scale(processor)
    return Preprocessing(
        size_px=side,
        mean=mean,
        std=std,
        interpolation=_RESAMPLING[resample],
        crop_mode=mode,
        crop_fraction=_crop_fraction(side, resized),
    )


def read_json_object(path: Path) -> dict[str, Any]:
    """Reads a JSON object. Raises ModelError if the file has none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def _load_processor(settings: Mapping[str, Any], path: Path) -> Any:
    """Returns the processor of transformers with these settings, whose defaults stand where a setting is missing."""
    named = settings.get("image_processor_type") or settings.get("feature_extractor_type") or _OLDEST
    # Names of earlier versions of transformers.
    name = str(named).replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast").removesuffix("Pil")
    found: Any = get_image_processor_class_from_name(name)
    is_processor = isinstance(found, type) and issubclass(found, TorchvisionBackend)
    if not is_processor or not _is_known(found):
        raise ModelError(
            f"{path}: the image processor {named!r} is not known here; known are {', '.join(_OWN_STEPS)}, and those "
            "that run transformers' usual steps, such as CLIPImageProcessor, SiglipImageProcessor, ViTImageProcessor "
            "and BitImageProcessor"
        )
    try:
        return found.from_dict(dict(settings))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: not the settings of a {name}: {type(error).__name__}: {error}") from error


def _is_known(processor: type[TorchvisionBackend]) -> bool:
    usual = all(getattr(processor, step) is getattr(TorchvisionBackend, step) for step in _STEPS)
    return usual or processor.__name__ in _OWN_STEPS


def _usual_geometry(processor: Any) -> _Geometry:
    size = processor.size
    if size.shortest_edge and not size.longest_edge:
        if not processor.do_center_crop:
            raise ValueError("do_center_crop is false, so that images would keep their shape; expected a square")
        return _square(processor.crop_size, "crop_size"), int(size.shortest_edge), "center_down"
    side = _square(size, "size")
    return (_square(processor.crop_size, "crop_size") if processor.do_center_crop else side), side, "squash"


def _convnext_geometry(processor: Any) -> _Geometry:
    if not processor.size.shortest_edge:
        raise ValueError(f"size is {dict(processor.size)}; expected shortest_edge")
    side = int(processor.size.shortest_edge)
    if side >= _CONVNEXT_SQUASH_PX:
        return side, side, "squash"
    return side, int(side / processor.crop_pct), "center_down"


_OWN_STEPS: dict[str, Callable[[Any], _Geometry]] = {
    "BeitImageProcessor": _usual_geometry,  # its own steps are for label maps
    "ConvNextImageProcessor": _convnext_geometry,
    "DINOv3ViTImageProcessor": _usual_geometry,
    "EfficientNetImageProcessor": _usual_geometry,
}


def _square(size: Any, name: str) -> int:
    if not size or not size.height or size.height != size.width:
        raise ValueError(f"{name} is {dict(size) if size else size}; expected a square")
    return int(size.height)


def _crop_fraction(side: int, resized: int) -> float:
    """Returns the fraction from which `Preprocessing.resize_px` gives `resized` again, in spite of rounding."""
    fraction = side / resized
    while math.floor(side / fraction) < resized:
        fraction = math.nextafter(fraction, 0.0)
    return fraction


def _scale(processor: Any) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Returns mean and deviation in units of x / 255, whatever the factor that the processor multiplies x by.

    EfficientNet's processor may subtract 1 after that, and may divide by the deviation a second time.
    """
    mean, std = ([0.0] * 3, [1.0] * 3)
    if processor.do_normalize:
        mean, std = _triple(processor.image_mean), _triple(processor.image_std)
    if getattr(processor, "include_top", False):
        std = [value**2 for value in std] if processor.do_normalize else _triple(processor.image_std)
    offset = 1.0 if getattr(processor, "rescale_offset", False) else 0.0
    unit = processor.rescale_factor * 255
    if offset or not math.isclose(unit, 1.0, rel_tol=1e-9):
        mean, std = [(value + offset) / unit for value in mean], [value / unit for value in std]
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def _triple(values: float | Sequence[float]) -> list[float]:
    found = [float(values)] * 3 if isinstance(values, int | float) else [float(value) for value in values]
    if len(found) != 3:
        raise ModelError(f"image processor: expected a mean and a deviation for each of three channels, found {found}")
    return found
