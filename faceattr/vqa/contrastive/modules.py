"""Loads CLIP and SigLIP checkpoints into transformers' classes.

Weights are read from safetensors only, classes are fixed, and the tokenizer and the image processor are data.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import (
    AutoTokenizer,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

from faceattr.errors import ModelError
from faceattr.vqa.contrastive.inspect import check_contrastive, contrastive_weight_files
from faceattr.vqa.contrastive.preprocess import frame_rgb
from faceattr.vqa.contrastive.processor import ContrastivePreprocessing, read_image_processor, refuse_processor

_CLASSES = {"clip": (CLIPModel, CLIPConfig), "siglip": (SiglipModel, SiglipConfig)}
_PROCESSORS = {"clip": CLIPImageProcessor, "siglip": SiglipImageProcessor}
_SHAPES = ((37, 53), (300, 40))


@dataclass(frozen=True)
class ContrastiveCheckpoint:
    """A CLIP or SigLIP model with its tokenizer and image processor.

    Attributes:
        name: the folder, for messages.
        family: `clip` or `siglip`.
        model: `CLIPModel` or `SiglipModel`, evaluation mode, float32, on the CPU.
        tokenizer: its tokenizer.
        image_processor: its image processor.
        preprocessing: the image processor's operations, in numbers.
    """

    name: str
    family: str
    model: Any
    tokenizer: Any
    image_processor: Any
    preprocessing: ContrastivePreprocessing


def load_contrastive(folder: Path, *, attention: Literal["sdpa", "eager"]) -> ContrastiveCheckpoint:
    """Loads a checkpoint folder.

    Args:
        folder: folder of the checkpoint.
        attention: how attention is computed: by torch's kernels, or step by step.

    Raises:
        ModelError: it is not a CLIP or SigLIP model, is incomplete, or its image processor does something that is not
            reproduced here.
    """
    config = check_contrastive(folder)
    family = str(config["model_type"])
    model = _load_model(folder, config, attention)
    preprocessing = read_image_processor(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        processor = _PROCESSORS[family].from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise ModelError(
            f"{folder}: transformers cannot load tokenizer and image processor: {error}. The first SigLIP's tokenizer "
            "needs the package sentencepiece; SigLIP 2's and CLIP's do not"
        ) from error
    _compare_processor(processor, preprocessing, folder)
    return ContrastiveCheckpoint(
        name=str(folder),
        family=family,
        model=model,
        tokenizer=tokenizer,
        image_processor=processor,
        preprocessing=preprocessing,
    )


def _load_model(folder: Path, config: dict[str, Any], attention: str) -> Any:
    model_class, config_class = _CLASSES[config["model_type"]]
    # Config and tensors are read here: given a folder name, transformers would follow whatever its files name.
    try:
        tensors = {
            name: tensor for path in contrastive_weight_files(folder) for name, tensor in load_file(path).items()
        }
        model, info = model_class.from_pretrained(
            None,
            config=config_class.from_dict(config),
            state_dict=tensors,
            dtype=torch.float32,
            attn_implementation=attention,
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


def _compare_processor(processor: Any, preprocessing: ContrastivePreprocessing, folder: Path) -> None:
    """Compares the processor's effect with ours on noisy, oblong images: settings may mean more than we read."""
    random = np.random.default_rng(0)
    for shape in _SHAPES:
        image = random.integers(0, 256, size=(*shape, 3), dtype=np.uint8)
        theirs = processor(images=[image], return_tensors="np", input_data_format="channels_last")["pixel_values"][0]
        framed = frame_rgb(image, preprocessing.framing).astype(np.float32) / 255
        ours = ((framed - preprocessing.mean) / preprocessing.std).transpose(2, 0, 1)
        if theirs.shape != ours.shape or np.abs(theirs - ours).max() > 1e-5:
            raise refuse_processor(folder, processor.to_dict())
