"""Checkpoints of visual question answering models: where one is, and what a driver needs to know about it."""

import hashlib
import importlib.resources
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceattr.config import StorageConfig
from faceattr.data.model_folders import locate_folder, refuse_revision
from faceattr.errors import ModelError


@dataclass(frozen=True)
class CheckpointFacts:
    """What a driver needs to know about a checkpoint without loading it.

    Attributes:
        model_type: from config.json; it selects the engine (`faceattr.vqa.engines`).
        revision: commit hash if it came from the Hugging Face hub, else None.
        weights_id: SHA-256 over names and contents of all files that are read from the checkpoint.
        size_px: side of the square images that the model takes.
        resizing: second argument of the engine's `resize`; for some the side alone, for others a dataclass of settings.
        gflop_image: GFLOP for an image, whatever is asked about it.
        gflop_question: GFLOP for each question about it, of usual length; 0 if questions cost nothing.
    """

    model_type: str
    revision: str | None
    weights_id: str
    size_px: int
    resizing: Any
    gflop_image: float
    gflop_question: float


CHECKPOINT_CONFIG = "config.json"
TINY_MODEL = "tiny"
"""Name of the small checkpoint inside the package, trained on drawn faces."""


# Files that are read from a checkpoint of any family and covered by `weights_id`.
CHECKPOINT_FILES = (
    CHECKPOINT_CONFIG,
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
# Files that only some families read; those have them in `weights_id` too.
OTHER_TOKENIZER_FILES = ("vocab.json", "merges.txt", "spiece.model", "tokenizer.model")
CHAT_FILES = ("chat_template.jinja", "chat_template.json")
_DOWNLOADED_FILES = (*CHECKPOINT_FILES, *OTHER_TOKENIZER_FILES, *CHAT_FILES)


_OFFLINE_REMEDY = (
    "Download it on a machine with network access and give its folder in place of the id, point HF_HOME at a cache "
    f"that holds it, or use `{TINY_MODEL}` for a dry run."
)


def resolve_checkpoint(model: str, revision: str | None = None, *, storage: StorageConfig | None = None) -> Path:
    """Returns the local folder of a checkpoint, downloaded first if necessary.

    Args:
        model: `tiny`, a local folder, a Hugging Face hub id, or a URI such as `s3://bucket/folder`.
        revision: branch, tag or commit hash; for hub ids only.
        storage: how object storage is reached, if the model is a URI.

    Raises:
        ConfigError, ModelError: there is no such model, or it cannot be reached.
    """
    if model == TINY_MODEL:
        refuse_revision(model, revision)
        return Path(str(importlib.resources.files("faceattr"))) / "demo" / "assets" / "tiny-blip"
    return locate_folder(model, patterns=_DOWNLOADED_FILES, revision=revision, storage=storage, remedy=_OFFLINE_REMEDY)


def read_checkpoint_config(folder: Path) -> dict[str, Any]:
    """Reads the folder's config.json without changes.

    Raises:
        ModelError: there is none, or it is not a JSON object.
    """
    path = folder / CHECKPOINT_CONFIG
    if not path.is_file():
        raise ModelError(f"{folder}: expected a checkpoint folder, found no {CHECKPOINT_CONFIG} in it")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path}: expected a JSON object, found {type(config).__name__}")
    return config


def hash_checkpoint(folder: Path, *, weights: Iterable[Path], patterns: Sequence[str] = CHECKPOINT_FILES) -> str:
    """Returns the SHA-256 over names and contents of the files that are read from a checkpoint folder.

    Args:
        folder: folder of the checkpoint.
        weights: its weight files.
        patterns: patterns of the names of all files that are read.
    """
    total = hashlib.sha256()
    found = {path for pattern in patterns for path in folder.glob(pattern)}
    for path in sorted(found.union(weights)):
        with path.open("rb") as file:
            name = path.relative_to(folder).as_posix()
            total.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def check_weights_id(model: str, *, found: str, expected: str) -> None:
    """Raises ModelError unless this node's weights are those that the driver hashed."""
    if found != expected:
        raise ModelError(
            f"{model}: this node has weights {found[:12]}, the driver {expected[:12]}. Use object "
            "storage or a pinned --revision, so that every node loads the same files."
        )
