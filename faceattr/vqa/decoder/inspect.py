"""Facts about an image-text-to-text checkpoint without loading it. Works without torch and transformers."""

from pathlib import Path
from typing import Any

from faceattr.data.checkpoint_files import clean_config, find_weight_files
from faceattr.data.model_folders import find_hub_commit
from faceattr.errors import ModelError
from faceattr.vqa.checkpoints import (
    CHAT_FILES,
    CHECKPOINT_CONFIG,
    CHECKPOINT_FILES,
    OTHER_TOKENIZER_FILES,
    CheckpointFacts,
    hash_checkpoint,
    read_checkpoint_config,
)
from faceattr.vqa.decoder.families import DECODER_FAMILIES, DecoderFamily
from faceattr.vqa.decoder.flops import count_decoder_image, count_decoder_question
from faceattr.vqa.decoder.sizes import read_decoder_sizes
from faceattr.vqa.decoder.square import read_square

_CLASSES = ("AutoModelForImageTextToText", "AutoProcessor")


def inspect_decoder(folder: Path) -> CheckpointFacts:
    """Checks a checkpoint as `load_decoder` does, without loading its weights.

    Raises:
        ModelError: the folder contains no image-text-to-text model in safetensors.
    """
    config, family = check_decoder(folder)
    square = read_square(folder, family)
    sizes = read_decoder_sizes(config, folder / CHECKPOINT_CONFIG)
    if sizes.image_px not in (None, square.size_px):
        raise ModelError(
            f"{folder}: the model takes images of {sizes.image_px} px, its image processor makes {square.size_px} px; "
            "correct the size in preprocessor_config.json"
        )
    return CheckpointFacts(
        model_type=config["model_type"],
        revision=find_hub_commit(folder),
        weights_id=hash_decoder(folder),
        size_px=square.size_px,
        resizing=square,
        gflop_image=count_decoder_image(sizes, square.size_px),
        gflop_question=count_decoder_question(sizes, square.size_px),
    )


def decoder_weights(folder: Path) -> tuple[Path, ...]:
    """Returns the safetensors files of a checkpoint; see `find_weight_files`."""
    return find_weight_files(folder, classes=_CLASSES)


def hash_decoder(folder: Path) -> str:
    """Returns the SHA-256 over names and contents of the files that are read from a checkpoint folder."""
    patterns = (*CHECKPOINT_FILES, *OTHER_TOKENIZER_FILES, *CHAT_FILES)
    return hash_checkpoint(folder, weights=decoder_weights(folder), patterns=patterns)


def check_decoder(folder: Path) -> tuple[dict[str, Any], DecoderFamily]:
    """Returns the folder's config.json without the keys that a checkpoint may not decide, and its family.

    Raises:
        ModelError: it is not a model of a family that is known, or not in safetensors.
    """
    path = folder / CHECKPOINT_CONFIG
    config = read_checkpoint_config(folder)
    family = DECODER_FAMILIES.get(str(config.get("model_type")))
    if family is None:
        raise ModelError(
            f"{path}: expected model_type to be one of {', '.join(DECODER_FAMILIES)}, found "
            f"{config.get('model_type')!r}"
        )
    decoder_weights(folder)
    return clean_config(config, path), family
