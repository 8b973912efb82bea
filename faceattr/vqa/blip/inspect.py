"""Facts about a BLIP VQA checkpoint without loading it: whether it is one, its image size, the hash of its contents.

Works without torch and transformers, whose import takes longer than everything else that a driver does before start.
"""

from pathlib import Path
from typing import Any

from faceattr.data.checkpoint_files import clean_config, find_weight_files
from faceattr.data.model_folders import find_hub_commit
from faceattr.errors import ModelError
from faceattr.vqa.blip.flops import count_image, count_question
from faceattr.vqa.blip.network.architecture import read_sizes
from faceattr.vqa.checkpoints import CHECKPOINT_CONFIG, CheckpointFacts, hash_checkpoint, read_checkpoint_config

_MODEL_TYPE = "blip"
_ARCHITECTURE = "BlipForQuestionAnswering"
# Classes that save a converted checkpoint: the model, its tokenizer, its image processor.
_CLASSES = (_ARCHITECTURE, "BertTokenizer", "BlipImageProcessor")


def inspect_folder(folder: Path) -> CheckpointFacts:
    """Checks a checkpoint as `load_blip` does, without loading its weights.

    Raises:
        ModelError: the folder contains no BLIP VQA checkpoint.
    """
    sizes = read_sizes(check_folder(folder), folder / CHECKPOINT_CONFIG)
    return CheckpointFacts(
        model_type=_MODEL_TYPE,
        revision=find_hub_commit(folder),
        weights_id=compute_weights_id(folder),
        size_px=sizes.image_px,
        resizing=sizes.image_px,
        gflop_image=count_image(sizes),
        gflop_question=count_question(sizes),
    )


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Returns the safetensors files of a BLIP checkpoint; see `find_weight_files`."""
    return find_weight_files(folder, classes=_CLASSES)


def compute_weights_id(folder: Path) -> str:
    """Returns the SHA-256 over names and contents of the files that are read from a checkpoint folder."""
    return hash_checkpoint(folder, weights=weight_files(folder))


def check_folder(folder: Path) -> dict[str, Any]:
    """Returns the folder's config.json without the keys that a checkpoint may not decide.

    Raises:
        ModelError: the folder contains no BLIP VQA model in safetensors.
    """
    config_path = folder / CHECKPOINT_CONFIG
    config = read_checkpoint_config(folder)
    architectures = config.get("architectures") or []
    if config.get("model_type") != _MODEL_TYPE or _ARCHITECTURE not in architectures:
        raise ModelError(
            f"{config_path}: expected a BLIP VQA model ({_ARCHITECTURE}), found "
            f"model_type={config.get('model_type')!r} architectures={architectures}; Salesforce/blip-vqa-base is one"
        )
    weight_files(folder)
    return clean_config(config, config_path)
