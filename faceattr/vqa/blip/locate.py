"""Where a checkpoint lies: in the package, or where any model may lie."""

import importlib.resources
from pathlib import Path

from faceattr.config import StorageConfig
from faceattr.data.model_folders import locate_folder, refuse_revision

TINY_MODEL = "tiny"
"""Name of the small checkpoint that ships inside the package, trained on drawn faces."""

# All that is read from a checkpoint, so also all that is downloaded and all that `weights_id` covers.
FILE_PATTERNS = (
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
    return locate_folder(model, patterns=FILE_PATTERNS, revision=revision, storage=storage, remedy=_OFFLINE_REMEDY)
