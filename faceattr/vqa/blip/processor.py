"""A checkpoint's image processor: its effect is tested, not inferred from its settings."""

from pathlib import Path
from typing import Any

import numpy as np
from transformers import BlipImageProcessor

from faceattr.errors import ModelError
from faceattr.vqa.blip.preprocess import BlipPreprocessing, normalise, resize_rgb


def load_preprocessing(folder: Path) -> tuple[BlipPreprocessing, Any]:
    """Returns the preprocessing of a checkpoint, and its `BlipImageProcessor`.

    Raises:
        ModelError: the processor cannot be loaded, or does something that `resize_rgb` and `normalise` do not.
    """
    try:
        processor = BlipImageProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{folder}: the image processor's settings cannot be read: {error}") from error
    preprocessing = _read_settings(folder, processor)
    _check_against(processor, preprocessing, folder)
    return preprocessing, processor


def _read_settings(folder: Path, processor: Any) -> BlipPreprocessing:
    size, mean, std = processor.size, tuple(processor.image_mean), tuple(processor.image_std)
    if not size.height or size.height != size.width:
        raise ModelError(f"{folder}: expected images resized to a fixed square, the image processor says size={size}")
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ModelError(f"{folder}: expected three means and positive deviations, found mean={mean} std={std}")
    return BlipPreprocessing(size_px=int(size.height), mean=mean, std=std)


def _check_against(processor: Any, preprocessing: BlipPreprocessing, folder: Path) -> None:
    """Compares the processor with `faceattr.vqa.blip.preprocess` on one noisy, oblong image."""
    image = np.random.default_rng(0).integers(0, 256, size=(37, 53, 3), dtype=np.uint8)
    theirs = processor(images=[image], return_tensors="np", input_data_format="channels_last")["pixel_values"][0]
    ours = normalise(resize_rgb(image, preprocessing.size_px), preprocessing).transpose(2, 0, 1)
    if theirs.shape != ours.shape or np.abs(theirs - ours).max() > 1e-5:
        settings = {key: value for key, value in processor.to_dict().items() if key.startswith(("do_", "res", "crop"))}
        raise ModelError(
            f"{folder}: the image processor does more or other than a bicubic resize to {preprocessing.size_px} px and "
            f"(x / 255 - mean) / std, which is all that is reproduced here; its settings are {settings}"
        )
