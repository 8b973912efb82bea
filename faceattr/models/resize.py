"""Resizes decoded images to a model's input square, uint8 in and uint8 out, exactly as `EvalTransform` does."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from faceattr.models.backbones.preprocessing import Preprocessing
from faceattr.models.transforms import EvalTransform


def resize_for(image: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Resizes an image and crops its centre.

    Args:
        image: uint8 [H, W, 3], RGB.
        preprocessing: preprocessing of the model.

    Returns:
        uint8 [S, S, 3], contiguous.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected a uint8 image [H, W, 3], found {image.dtype} {list(image.shape)}")
    # Arrays from Ray's object store are read-only, which torch does not support.
    pixels = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)
    return _transform(preprocessing)(pixels).permute(1, 2, 0).contiguous().numpy()


def resize_pixels(image: np.ndarray, preprocessing: Mapping[str, Any]) -> np.ndarray:
    """Calls `resize_for` with the dict from `Preprocessing.to_dict`, for stages that name this function as a string."""
    return resize_for(image, Preprocessing.from_dict(preprocessing))


@functools.lru_cache(maxsize=8)
def _transform(preprocessing: Preprocessing) -> EvalTransform:
    return EvalTransform(preprocessing)
