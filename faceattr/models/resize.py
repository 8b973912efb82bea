"""Decoded images to the square of a model: uint8 in, uint8 out, exactly as `EvalTransform` has it."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from faceattr.models.backbones.preprocessing import Preprocessing
from faceattr.models.transforms import EvalTransform


def resize_for(image: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Resize and central crop.

    Args:
        image: uint8 [H, W, 3], RGB.
        preprocessing: of the model.

    Returns:
        uint8 [S, S, 3], contiguous.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected a uint8 image [H, W, 3], found {image.dtype} {list(image.shape)}")
    # Arrays from Ray's object store are read-only, which torch cannot express.
    pixels = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)
    return _transform(preprocessing)(pixels).permute(1, 2, 0).contiguous().numpy()


def resize_pixels(image: np.ndarray, preprocessing: Mapping[str, Any]) -> np.ndarray:
    """`resize_for` with the preprocessing as `Preprocessing.to_dict` gives it; for stages that name it by text."""
    return resize_for(image, Preprocessing.from_dict(preprocessing))


@functools.lru_cache(maxsize=8)
def _transform(preprocessing: Preprocessing) -> EvalTransform:
    return EvalTransform(preprocessing)
