"""Where a checkpoint lies: in the package, in a folder, behind a URI, or on the Hugging Face hub."""

import importlib.resources
import re
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from faceattr.errors import ConfigError, ModelError

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
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_OFFLINE_REMEDY = (
    "Download it on a machine with network access and give the folder, point HF_HOME at a cache that holds it, or use "
    f"`{TINY_MODEL}` for a dry run."
)


def resolve_checkpoint(
    model: str, revision: str | None = None, *, fetch_remote: Callable[[str], Path] | None = None
) -> Path:
    """The local folder of a checkpoint, downloaded first where it must be.

    Args:
        model: `tiny`, a local folder, a Hugging Face hub id, or a URI such as `s3://bucket/folder`.
        revision: branch, tag or commit hash; for hub ids only.
        fetch_remote: copies the folder behind a URI to this machine and returns its path.

    Raises:
        ConfigError, ModelError: there is no such model, or it cannot be reached.
    """
    if "://" in model:
        _refuse_revision(model, revision)
        if fetch_remote is None:
            raise ConfigError(f"model {model!r}: expected a local folder or a hub id here, found a URI")
        return fetch_remote(model)
    if model == TINY_MODEL:
        _refuse_revision(model, revision)
        return Path(str(importlib.resources.files("faceattr"))) / "demo" / "assets" / "tiny-blip"
    folder = Path(model).expanduser()
    if folder.is_dir():
        # A folder of the hub's cache has a revision, which a driver may hand on with it.
        if revision != find_hub_commit(folder):
            _refuse_revision(model, revision)
        return folder
    if not _HUB_ID.fullmatch(model):
        raise ModelError(f"model {model!r}: no such folder, and not the form of a Hugging Face hub id (`owner/name`)")
    return _download(model, revision)


def find_hub_commit(folder: Path) -> str | None:
    """Commit hash of a folder in the hub's cache, else None.

    The cache keeps a commit's files under `snapshots/<commit hash>`.
    """
    return folder.name if folder.parent.name == "snapshots" else None


def _refuse_revision(model: str, revision: str | None) -> None:
    if revision is not None:
        raise ConfigError(f"model {model!r}: a revision ({revision!r}) is for hub ids only; leave it out")


def _download(model: str, revision: str | None) -> Path:
    at = f"{model!r}" if revision is None else f"{model!r} at revision {revision!r}"
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(FILE_PATTERNS)))
    except RevisionNotFoundError as error:
        raise ModelError(f"model {at}: the Hugging Face hub has the model but not this revision") from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"model {at}: no local folder of this name, and the Hugging Face hub has no such public model "
            "(a private or gated one needs HF_TOKEN)"
        ) from error
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"model {at}: no local folder of this name, the Hugging Face hub cannot be reached, and its cache "
            f"on this machine does not hold the model. {_OFFLINE_REMEDY}"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"model {at}: the download from the Hugging Face hub failed: {error}. {_OFFLINE_REMEDY}"
        ) from error
