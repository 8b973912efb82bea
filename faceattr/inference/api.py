"""The Python API: load a model once, then predict files, one or many, and draw what it says.

    from faceattr import load_model, predict_batch, predict_image, visualize_prediction

    model, device = load_model("./models/m1")
    predict_image("photo.jpg", model)                    {"hat": "yes", "age": 31.4, ...}
    predict_batch(paths, model, return_confidence=True)  one entry a path, at its own place
    visualize_prediction("photo.jpg", output_path="photo_pred.jpg")

Without `model`, the one that the environment variable FACEATTR_MODEL names is loaded, once.
"""

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from faceattr.config import ImageLimitsConfig, Precision, StorageConfig
from faceattr.devices import resolve_device
from faceattr.errors import ConfigError, ImageError
from faceattr.inference.prediction import Prediction
from faceattr.inference.predictor import Predictor, load_rgb
from faceattr.inference.visualize import draw_prediction, save_picture
from faceattr.models.multitask import MultiAttributeModel
from faceattr.models.transforms import EvalTransform, Normalise

MODEL_VARIABLE = "FACEATTR_MODEL"
Model = MultiAttributeModel | str | Path
Transform = Callable[[Image.Image], Tensor]
"""A Pillow image to normalised float32 [3, S, S], such as torchvision's `Compose`."""


def load_model(
    model: str | Path | None = None, device: str | torch.device | None = None, *, revision: str | None = None
) -> tuple[MultiAttributeModel, torch.device]:
    """Loads a trained model.

    Args:
        model: local folder, Hugging Face hub id, or `s3://bucket/folder`; by default what FACEATTR_MODEL names.
        device: by default a GPU if there is one, else the CPU.
        revision: commit, for hub ids.

    Returns:
        The model, in evaluation mode on the device, and the device.

    Raises:
        ConfigError, ModelError: there is no such model, or it is not one of ours.
    """
    source = model or os.environ.get(MODEL_VARIABLE)
    if source is None:
        raise ConfigError(f"no model is given: pass one, or name its folder in the variable {MODEL_VARIABLE}")
    place = resolve_device(str(device or "auto"))
    loaded = MultiAttributeModel.from_pretrained(source, revision=revision, storage=StorageConfig())
    return loaded.to(place), place


def get_transform(model: Model | None = None) -> Transform:
    """The preprocessing of a model: Pillow image, or RGB uint8 [H, W, 3], -> normalised float32 [3, S, S]."""
    preprocessing = _resolve(model, None).backbone.preprocessing
    resize, normalise = EvalTransform(preprocessing), Normalise(preprocessing)

    def transform(image: Image.Image | np.ndarray) -> Tensor:
        rgb = np.array(image.convert("RGB") if isinstance(image, Image.Image) else image)
        normalised: Tensor = normalise(resize(torch.from_numpy(rgb).permute(2, 0, 1)))
        return normalised

    return transform


def predict_image(
    path: str | Path,
    model: Model | None = None,
    device: str | torch.device | None = None,
    transform: Transform | None = None,
    return_confidence: bool = False,
    *,
    limits: ImageLimitsConfig | None = None,
) -> dict[str, Any]:
    """What a model says of one picture of one face.

    Args:
        path: of the file.
        model: loaded, or where it is; by default what FACEATTR_MODEL names.
        device: by default where a loaded model is, else a GPU if there is one.
        transform: in place of the model's own preprocessing; see `get_transform`.
        return_confidence: also give `<name>_confidence`, and `<name>_scores` of attributes with several classes.
        limits: what an encoded image may be, as --decode.max-bytes and --decode.max-pixels of the commands.

    Returns:
        Attribute -> name of its class (`yes` or `no` for binary ones), or years; and what was asked for besides.

    Raises:
        ConfigError, ModelError: the model cannot be loaded.
        ImageError: the file cannot be read as an image.
    """
    (found,) = _predictor(model, device, 1, limits=limits).predict([path], transform=_on_arrays(transform))
    if isinstance(found, ImageError):
        raise found
    return found.to_dict(confidence=return_confidence)


def predict_batch(
    paths: Sequence[str | Path],
    model: Model | None = None,
    device: str | torch.device | None = None,
    transform: Transform | None = None,
    *,
    batch_size: int = 32,
    return_confidence: bool = False,
    precision: Precision = "float32",
    limits: ImageLimitsConfig | None = None,
) -> list[dict[str, Any]]:
    """What a model says of many pictures.

    Args:
        paths: of the files.
        model: as for `predict_image`, and so are the next two.
        device: see there.
        transform: see there.
        batch_size: pictures in a forward pass, at most.
        return_confidence: see `predict_image`.
        precision: type that the network computes in; `bfloat16` is the fastest where the processor has it, and
            confidences then move by up to about 0.02.
        limits: see `predict_image`.

    Returns:
        One entry a path, in their order, each with `path`; a file that cannot be used has `error` in place of
        attributes, and moves no other.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size: expected 1 or more, found {batch_size}")
    predictor = _predictor(model, device, batch_size, precision, limits=limits)
    found = predictor.predict(list(paths), transform=_on_arrays(transform))
    return [
        {"path": str(path)}
        | ({"error": str(each)} if isinstance(each, ImageError) else each.to_dict(confidence=return_confidence))
        for path, each in zip(paths, found, strict=True)
    ]


def visualize_prediction(
    path: str | Path,
    prediction: dict[str, Any] | None = None,
    output_path: str | Path | None = None,
    *,
    model: Model | None = None,
) -> Image.Image:
    """Draws a prediction under its picture.

    Args:
        path: of the picture.
        prediction: what `predict_image` gave for it; predicted here if there is none.
        output_path: where to save it, .jpg or .png; by default it is only returned.
        model: as for `predict_image`.
    """
    given = prediction if prediction is not None else predict_image(path, model, return_confidence=True)
    picture = draw_prediction(load_rgb(path), Prediction.from_dict(given))
    if output_path is not None:
        save_picture(picture, Path(output_path))
    return picture


def _predictor(
    model: Model | None,
    device: str | torch.device | None,
    batch_size: int,
    precision: Precision = "float32",
    *,
    limits: ImageLimitsConfig | None,
) -> Predictor:
    loaded = _resolve(model, device)
    place = device or next(loaded.parameters()).device
    return Predictor(loaded, device=place, batch_size=batch_size, precision=precision, limits=limits)


def _resolve(model: Model | None, device: str | torch.device | None) -> MultiAttributeModel:
    if isinstance(model, MultiAttributeModel):
        return model
    source = str(model or os.environ.get(MODEL_VARIABLE) or "") or None
    return _load_once(source, str(device or "auto"))


@functools.lru_cache(maxsize=2)
def _load_once(source: str | None, device: str) -> MultiAttributeModel:
    return load_model(source, device)[0]


def _on_arrays(transform: Transform | None) -> Callable[[np.ndarray], Tensor] | None:
    return None if transform is None else lambda rgb: transform(Image.fromarray(rgb))
