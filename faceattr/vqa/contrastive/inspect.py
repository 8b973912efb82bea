"""Facts about a CLIP or SigLIP checkpoint without loading it; works without torch and transformers."""

from pathlib import Path
from typing import Any

from faceattr.data.checkpoint_files import clean_config, find_weight_files
from faceattr.data.model_folders import find_hub_commit
from faceattr.errors import ModelError
from faceattr.vqa.checkpoints import (
    CHECKPOINT_CONFIG,
    CHECKPOINT_FILES,
    OTHER_TOKENIZER_FILES,
    CheckpointFacts,
    hash_checkpoint,
    read_checkpoint_config,
)
from faceattr.vqa.contrastive.flops import count_contrastive_image
from faceattr.vqa.contrastive.processor import read_image_processor
from faceattr.vqa.contrastive.sizes import read_vision_sizes

_ARCHITECTURES = {"clip": "CLIPModel", "siglip": "SiglipModel"}


def inspect_contrastive(folder: Path) -> CheckpointFacts:
    """Checks a checkpoint folder of the family `clip` or `siglip` without loading its weights.

    Raises:
        ModelError: it lacks a text tower, its image processor is not reproduced, or it has no safetensors.
    """
    config = check_contrastive(folder)
    sizes = read_vision_sizes(config, folder / CHECKPOINT_CONFIG)
    framing = read_image_processor(folder).framing
    if framing.size_px != sizes.image_px:
        raise ModelError(
            f"{folder}: the model takes images of {sizes.image_px} px, its image processor makes {framing.size_px} px; "
            "correct the size in preprocessor_config.json"
        )
    return CheckpointFacts(
        model_type=str(config["model_type"]),
        revision=find_hub_commit(folder),
        weights_id=hash_contrastive(folder),
        size_px=framing.size_px,
        resizing=framing,
        gflop_image=count_contrastive_image(sizes),
        gflop_question=0.0,
    )


def check_contrastive(folder: Path) -> dict[str, Any]:
    """Returns the folder's config.json without the keys that a checkpoint may not decide.

    Raises:
        ModelError: the folder contains no CLIP or SigLIP model of images and texts in safetensors.
    """
    path = folder / CHECKPOINT_CONFIG
    config = read_checkpoint_config(folder)
    family, architectures = config.get("model_type"), config.get("architectures") or []
    expected = _ARCHITECTURES.get(str(family))
    if expected is None or expected not in architectures:
        raise ModelError(
            f"{path}: expected a model of images and texts ({' or '.join(_ARCHITECTURES.values())}), found "
            f"model_type={family!r} architectures={architectures}"
        )
    contrastive_weight_files(folder)
    return clean_config(config, path)


def contrastive_weight_files(folder: Path) -> tuple[Path, ...]:
    """Returns the safetensors files of a checkpoint; see `find_weight_files`."""
    return find_weight_files(folder, classes=("AutoModel", "AutoProcessor"))


def hash_contrastive(folder: Path) -> str:
    """Returns the SHA-256 over names and contents of the files that are read from a checkpoint folder."""
    patterns = (*CHECKPOINT_FILES, *OTHER_TOKENIZER_FILES)
    return hash_checkpoint(folder, weights=contrastive_weight_files(folder), patterns=patterns)
