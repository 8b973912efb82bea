"""Loads BLIP VQA checkpoints.

Nothing from a checkpoint is executed: weights are read from safetensors only, classes are fixed, and the tokenizer
and the image processor are data.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import BertTokenizer, BlipConfig, BlipForQuestionAnswering

from faceattr.config import StorageConfig
from faceattr.data.model_folders import find_hub_commit
from faceattr.errors import ModelError
from faceattr.vqa.blip.inspect import check_folder, compute_weights_id, weight_files
from faceattr.vqa.blip.preprocess import BlipPreprocessing
from faceattr.vqa.blip.processor import load_preprocessing
from faceattr.vqa.checkpoints import resolve_checkpoint


@dataclass(frozen=True)
class BlipCheckpoint:
    """A loaded BLIP VQA model with its tokenizer and image processor.

    Attributes:
        name: the model as requested.
        folder: folder of its files on this machine.
        revision: commit hash if it came from the Hugging Face hub, else None.
        weights_id: SHA-256 over names and contents of all files that were read.
        model: `BlipForQuestionAnswering`, evaluation mode, float32, on the CPU.
        tokenizer: its BERT tokenizer.
        image_processor: its `BlipImageProcessor`.
        preprocessing: the image processor's operations, in numbers.
    """

    name: str
    folder: Path
    revision: str | None
    weights_id: str
    model: Any
    tokenizer: Any
    image_processor: Any
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
    blip = _load_model(folder, check_folder(folder))
    tokenizer = _load_tokenizer(folder, blip.config.text_config)
    preprocessing, image_processor = load_preprocessing(folder)
    if preprocessing.size_px != blip.config.vision_config.image_size:
        raise ModelError(
            f"{folder}: the model takes images of {blip.config.vision_config.image_size} px, its image processor "
            f"makes {preprocessing.size_px} px; correct `size` in preprocessor_config.json"
        )
    return BlipCheckpoint(
        name=model,
        folder=folder,
        revision=find_hub_commit(folder),
        weights_id=compute_weights_id(folder),
        model=blip,
        tokenizer=tokenizer,
        image_processor=image_processor,
        preprocessing=preprocessing,
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


def _load_tokenizer(folder: Path, text_config: Any) -> Any:
    # Without these files transformers silently creates a tokenizer of five tokens.
    if not (folder / "tokenizer.json").is_file() and not (folder / "vocab.txt").is_file():
        raise ModelError(f"{folder}: expected the tokenizer's tokenizer.json or vocab.txt, found neither")
    try:
        tokenizer = BertTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{folder}: the tokenizer cannot be loaded: {error}") from error
    if len(tokenizer) > text_config.vocab_size:
        raise ModelError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens, the model embeds {text_config.vocab_size}; "
            "they are not from the same checkpoint"
        )
    if tokenizer.sep_token_id != text_config.sep_token_id:
        raise ModelError(
            f"{folder}: [SEP] is token {tokenizer.sep_token_id} in the tokenizer and {text_config.sep_token_id} in the "
            "model's text_config.sep_token_id; answers could not end"
        )
    if not 0 <= text_config.bos_token_id < text_config.vocab_size:
        raise ModelError(
            f"{folder}: text_config.bos_token_id is {text_config.bos_token_id}, the model embeds "
            f"{text_config.vocab_size} tokens; it has to be the id of [DEC], from which answers start"
        )
    return tokenizer
