"""Loads BLIP VQA checkpoints into the Hugging Face modules, for the plain path alone.

Weights are read from safetensors only, classes are fixed, and the tokenizer and the image processor are data.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import BertTokenizer, BlipConfig, BlipForQuestionAnswering, BlipImageProcessor

from faceattr.config import StorageConfig
from faceattr.errors import ModelError
from faceattr.vqa.blip.inspect import check_folder, weight_files
from faceattr.vqa.blip.preprocess import BlipPreprocessing, normalise, resize_rgb
from faceattr.vqa.blip.processor import load_preprocessing, refusal
from faceattr.vqa.checkpoints import resolve_checkpoint


@dataclass(frozen=True)
class HfBlip:
    """A BLIP VQA model in transformers' own classes.

    Attributes:
        name: the model as requested.
        model: `BlipForQuestionAnswering`, evaluation mode, float32, on the CPU.
        tokenizer: its `BertTokenizer`.
        image_processor: its `BlipImageProcessor`.
        size_px: side of the square images that the processor makes.
    """

    name: str
    model: Any
    tokenizer: Any
    image_processor: Any
    size_px: int


def load_hf_blip(model: str, *, revision: str | None = None, storage: StorageConfig | None = None) -> HfBlip:
    """Loads a BLIP VQA checkpoint into transformers.

    Args:
        model: see `resolve_checkpoint`.
        revision: see `resolve_checkpoint`.
        storage: see `resolve_checkpoint`.

    Raises:
        ConfigError, ModelError: it cannot be found, is not a BLIP VQA checkpoint, is incomplete, or its image processor
            does something that is not reproduced here.
    """
    folder = resolve_checkpoint(model, revision, storage=storage)
    blip = _load_model(folder, check_folder(folder))
    preprocessing = load_preprocessing(folder)
    try:
        tokenizer = BertTokenizer.from_pretrained(folder, local_files_only=True)
        processor = BlipImageProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{folder}: transformers cannot load tokenizer and image processor: {error}") from error
    _check_processor(processor, preprocessing, folder)
    return HfBlip(
        name=model,
        model=blip,
        tokenizer=tokenizer,
        image_processor=processor,
        size_px=preprocessing.size_px,
    )


def _load_model(folder: Path, config: dict[str, Any]) -> Any:
    # Config and tensors are read here: given a folder name, transformers would follow whatever its files name.
    try:
        tensors = {name: tensor for path in weight_files(folder) for name, tensor in load_file(path).items()}
        model, info = BlipForQuestionAnswering.from_pretrained(
            None,
            config=BlipConfig.from_dict(config),
            state_dict=tensors,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder}: the weights cannot be loaded: {error}") from error
    # Transformers fills missing tensors with random numbers and only warns.
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"{folder}: {len(missing)} tensors of the model are not in the weights, {missing[0]!r} for one; "
            "the checkpoint is incomplete or has another architecture"
        )
    return model.eval()


def _check_processor(processor: Any, preprocessing: BlipPreprocessing, folder: Path) -> None:
    """Compares the processor's effect with ours on one noisy, oblong image: settings may mean more than we read."""
    image = np.random.default_rng(0).integers(0, 256, size=(37, 53, 3), dtype=np.uint8)
    theirs = processor(images=[image], return_tensors="np", input_data_format="channels_last")["pixel_values"][0]
    ours = normalise(resize_rgb(image, preprocessing.size_px), preprocessing).transpose(2, 0, 1)
    if theirs.shape != ours.shape or np.abs(theirs - ours).max() > 1e-5:
        raise refusal(folder, preprocessing, processor.to_dict())
