"""What can be said of a BLIP VQA checkpoint without loading it: whether it is one, its size, the hash of its contents.

Without torch and transformers, whose import takes longer than all else that a driver does before it starts.

Where a checkpoint lies: in the package, or where any model may lie.
"""

import hashlib
import importlib.resources
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceattr.config import StorageConfig
from faceattr.data.checkpoint_files import clean_config, find_weight_files
from faceattr.data.model_folders import find_hub_commit, locate_folder, refuse_revision
from faceattr.errors import ModelError

_ARCHITECTURE = "BlipForQuestionAnswering"
# What a converted checkpoint is saved with: the model, its tokenizer, its image processor.
_CLASSES = (_ARCHITECTURE, "BertTokenizer", "BlipImageProcessor")
# Of BlipVisionConfig, where config.json does not say it.
_DEFAULT_SIZE_PX = 384


@dataclass(frozen=True)
class CheckpointFacts:
    """What a driver needs to know of a checkpoint without loading it.

    Attributes:
        revision: commit hash if it came from the Hugging Face hub, else None.
        weights_id: as in `BlipCheckpoint`.
        size_px: side of the square images that the model takes.
    """

    revision: str | None
    weights_id: str
    size_px: int


def inspect_checkpoint(
    model: str, *, revision: str | None = None, storage: StorageConfig | None = None
) -> CheckpointFacts:
    """Finds and checks a checkpoint as `load_blip` does, and leaves its weights on disk.

    Raises:
        ConfigError, ModelError: it cannot be found or is no BLIP VQA checkpoint.
    """
    folder = resolve_checkpoint(model, revision, storage=storage)
    config = check_folder(folder)
    return CheckpointFacts(
        revision=find_hub_commit(folder),
        weights_id=compute_weights_id(folder),
        size_px=config.get("vision_config", {}).get("image_size", _DEFAULT_SIZE_PX),
    )


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a BLIP checkpoint; see `find_weight_files`."""
    return find_weight_files(folder, classes=_CLASSES)


def compute_weights_id(folder: Path) -> str:
    """SHA-256 over names and contents of the files that are read from a checkpoint folder."""
    total = hashlib.sha256()
    found = {path for pattern in CHECKPOINT_FILES for path in folder.glob(pattern)}
    for path in sorted(found.union(weight_files(folder))):
        with path.open("rb") as file:
            name = path.relative_to(folder).as_posix()
            total.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def check_folder(folder: Path) -> dict[str, Any]:
    """The folder's config.json, without what is not its to say.

    Raises:
        ModelError: the folder holds no BLIP VQA model in safetensors.
    """
    config_path = folder / "config.json"
    if not config_path.is_file():
        raise ModelError(f"{folder}: expected a checkpoint folder, found no config.json in it")
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{config_path}: not readable as JSON: {error}") from error
    architectures = config.get("architectures") or []
    if not isinstance(config, dict):
        raise ModelError(f"{config_path}: expected a JSON object, found {type(config).__name__}")
    if config.get("model_type") != "blip" or _ARCHITECTURE not in architectures:
        raise ModelError(
            f"{config_path}: expected a BLIP VQA model ({_ARCHITECTURE}), found "
            f"model_type={config.get('model_type')!r} architectures={architectures}; Salesforce/blip-vqa-base is one"
        )
    weight_files(folder)
    return clean_config(config, config_path)


TINY_MODEL = "tiny"
"""Name of the small checkpoint that ships inside the package, trained on drawn faces."""

# All that is read from a checkpoint, so also all that is downloaded and all that `weights_id` covers.
CHECKPOINT_FILES = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "model*.safetensors",
    "model.safetensors.index.json",
)
_OFFLINE_REMEDY = (
    "Download it on a machine with network access and give the folder, point HF_HOME at a cache that holds it, or use "
    f"`{TINY_MODEL}` for a dry run."
)


def resolve_checkpoint(model: str, revision: str | None = None, *, storage: StorageConfig | None = None) -> Path:
    """The local folder of a checkpoint, downloaded first where it must be.

    Args:
        model: `tiny`, a local folder, a Hugging Face hub id, or a URI such as `s3://bucket/folder`.
        revision: branch, tag or commit hash; for hub ids only.
        storage: how object storage is reached, where the source is a URI.

    Raises:
        ConfigError, ModelError: there is no such model, or it cannot be reached.
    """
    if model == TINY_MODEL:
        refuse_revision(model, revision)
        return Path(str(importlib.resources.files("faceattr"))) / "demo" / "assets" / "tiny-blip"
    return locate_folder(model, patterns=CHECKPOINT_FILES, revision=revision, storage=storage, remedy=_OFFLINE_REMEDY)
