"""The Python API: loads a model once, predicts one or many files, and draws predictions.

    from faceattr import load_model, predict_batch, predict_image, visualize_prediction

    model, device = load_model("./models/m1")
    predict_image("photo.jpg", model)                    {"hat": "yes", "age": 31.4, ...}
    predict_batch(paths, model, return_confidence=True)  one entry per path, in the same order
    visualize_prediction("photo.jpg", output_path="photo_pred.jpg")

Without `model`, the model that the environment variable FACEATTR_MODEL names is loaded, once.
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

from faceattr.config import ImageLimitsConfig, PrecisionChoice, StorageConfig
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
"""Maps a Pillow image to normalised float32 [3, S, S], as torchvision's `Compose` does."""


def load_model(
    model: str | Path | None = None, device: str | torch.device | None = None, *, revision: str | None = None
) -> tuple[MultiAttributeModel, torch.device]:
    """Loads a trained model.

    Args:
        model: local folder, Hugging Face hub id, or `s3://bucket/folder`; by default the value of FACEATTR_MODEL.
        device: where the model runs; by default a GPU if there is one, else the CPU.
        revision: branch, tag or commit, for hub ids.

    Returns:
        The model, in evaluation mode on the device, and the device.

    Raises:
        ConfigError, ModelError: there is no such model, or it was not saved by faceattr.
    """
    source = model or os.environ.get(MODEL_VARIABLE)
    if source is None:
        raise ConfigError(f"no model is given: pass one, or set the variable {MODEL_VARIABLE} to its folder")
    place = resolve_device(str(device or "auto"))
    loaded = MultiAttributeModel.from_pretrained(source, revision=revision, storage=StorageConfig())
    return loaded.to(place), place


def get_transform(model: Model | None = None) -> Transform:
    """Returns a model's preprocessing: Pillow image or RGB uint8 [H, W, 3] -> normalised float32 [3, S, S]."""
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
    precision: PrecisionChoice = "auto",
    limits: ImageLimitsConfig | None = None,
) -> dict[str, Any]:
    """Predicts one picture of one face.

    Args:
        path: path of the picture.
        model: a loaded model, or its folder, hub id or URI; by default the value of FACEATTR_MODEL.
        device: where the model runs; by default the device of a loaded model, else a GPU if there is one.
        transform: replaces the model's own preprocessing; see `get_transform`.
        return_confidence: also return `<name>_confidence`, and `<name>_scores` for attributes with several classes.
        precision: dtype of the network's computation. auto: bfloat16 on GPUs from Ampere on, else float32. bfloat16
            changes confidences by up to about 0.02; on CPUs it pays only where they have instructions for it. On a GPU,
            torch computes float32 matrix products of this process with TF32 afterwards.
        limits: limits on encoded images, as --decode.max-bytes and --decode.max-pixels of the commands.

    Returns:
        Attribute -> class name (`yes` or `no` for binary attributes), or years; and the confidences if requested.

    Raises:
        ConfigError, ModelError: the model cannot be loaded.
        ImageError: the file cannot be read as an image.
    """
    (found,) = _predictor(model, device, 1, precision, limits=limits).predict([path], transform=_on_arrays(transform))
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
    precision: PrecisionChoice = "auto",
    limits: ImageLimitsConfig | None = None,
) -> list[dict[str, Any]]:
    """Predicts many pictures of one face each.

    Args:
        paths: paths of the pictures.
        model: see `predict_image`.
        device: see `predict_image`.
        transform: see `predict_image`.
        batch_size: maximum number of pictures in a forward pass.
        return_confidence: see `predict_image`.
        precision: see `predict_image`.
        limits: see `predict_image`.

    Returns:
        One entry per path, in the same order, each with `path`. A file that cannot be used has `error` in place of
            attributes; the other entries are not affected.
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
    """Draws a prediction below its picture.

    Args:
        path: path of the picture.
        prediction: result of `predict_image` for it; by default it is predicted here.
        output_path: path of the saved picture, .jpg or .png; by default the picture is only returned.
        model: see `predict_image`.
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
    precision: PrecisionChoice,
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
