"""Loads BLIP VQA checkpoints for the packed engine.

Nothing from a checkpoint is executed: weights are read from safetensors only, the modules are ours, and the tokenizer
and the image processor are data. transformers, whose import takes seconds, is not needed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from faceattr.config import StorageConfig
from faceattr.data.model_folders import find_hub_commit
from faceattr.errors import ModelError
from faceattr.vqa.blip.inspect import check_folder, compute_weights_id, weight_files
from faceattr.vqa.blip.network.architecture import BlipArchitecture, read_architecture
from faceattr.vqa.blip.network.weights import read_weights
from faceattr.vqa.blip.preprocess import BlipPreprocessing
from faceattr.vqa.blip.processor import load_preprocessing
from faceattr.vqa.blip.tokenizer import load_tokenizer
from faceattr.vqa.blip.tokens import BertTokens
from faceattr.vqa.checkpoints import CHECKPOINT_CONFIG, resolve_checkpoint


@dataclass(frozen=True)
class BlipCheckpoint:
    """A BLIP VQA model with its tokenizer and image processor.

    Attributes:
        name: the model as requested.
        revision: commit hash if it came from the Hugging Face hub, else None.
        weights_id: SHA-256 over names and contents of all files that were read.
        architecture: sizes of the model.
        tensors: name -> tensor on the CPU in the precision of the file, all that the model needs.
        tokenizer: its BERT tokenizer.
        preprocessing: the image processor's operations, in numbers.
    """

    name: str
    revision: str | None
    weights_id: str
    architecture: BlipArchitecture
    tensors: Mapping[str, Tensor]
    tokenizer: BertTokens
    preprocessing: BlipPreprocessing


def load_blip(model: str, *, revision: str | None = None, storage: StorageConfig | None = None) -> BlipCheckpoint:
    """Loads a BLIP VQA checkpoint.

    Args:
        model: see `resolve_checkpoint`.
        revision: see `resolve_checkpoint`.
        storage: see `resolve_checkpoint`.

    Raises:
        ConfigError, ModelError: it cannot be found, is not a BLIP VQA checkpoint, or is incomplete.
    """
    folder = resolve_checkpoint(model, revision, storage=storage)
    architecture = read_architecture(check_folder(folder), folder / CHECKPOINT_CONFIG)
    tensors = read_weights(weight_files(folder), architecture, where=folder)
    tokenizer = load_tokenizer(folder, architecture)
    preprocessing = load_preprocessing(folder)
    _check_image_size(architecture, preprocessing, folder)
    return BlipCheckpoint(
        name=model,
        revision=find_hub_commit(folder),
        weights_id=compute_weights_id(folder),
        architecture=architecture,
        tensors=tensors,
        tokenizer=tokenizer,
        preprocessing=preprocessing,
    )


def _check_image_size(architecture: BlipArchitecture, preprocessing: BlipPreprocessing, folder: Path) -> None:
    """Raises ModelError unless the image processor makes what the model takes."""
    if preprocessing.size_px != architecture.image_px:
        raise ModelError(
            f"{folder}: the model takes images of {architecture.image_px} px, its image processor makes "
            f"{preprocessing.size_px} px; correct `size` in preprocessor_config.json"
        )
