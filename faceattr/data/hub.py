"""Where a model's files lie: in a folder, behind a URI, or on the Hugging Face hub. For BLIP and for our own models."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from faceattr.data.stores.addresses import check_no_credentials, normalise_address
from faceattr.errors import ConfigError, ModelError

FetchRemote = Callable[[str], Path]
"""Copies the folder behind a URI to this machine and returns its path."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
OFFLINE_REMEDY = (
    "Download it on a machine with network access and give the folder, or point HF_HOME at a cache that holds it."
)


def locate_folder(
    model: str | Path,
    *,
    patterns: Sequence[str],
    revision: str | None = None,
    fetch_remote: FetchRemote | None = None,
    remedy: str = OFFLINE_REMEDY,
) -> Path:
    """The local folder of a model, downloaded first where it must be.

    Args:
        model: a local folder, a Hugging Face hub id, or a URI such as `s3://bucket/folder`.
        patterns: file name patterns to download from the hub; nothing else is.
        revision: branch, tag or commit hash; for hub ids only.
        fetch_remote: needed for URIs.
        remedy: what to do when the hub cannot be reached.

    Raises:
        ConfigError, ModelError: there is no such model, or it cannot be reached.
    """
    name = str(model)
    check_no_credentials(name, "a model's address")
    if "://" in name or name.startswith(("~", "file:")):  # not a hub id, which may not become a path
        name = normalise_address(name)
    folder = Path(name)
    is_folder = folder.is_dir()
    # A folder of the hub's cache has a revision, which a driver may hand on with it.
    has_revision = is_folder and revision == find_hub_commit(folder)
    if (is_folder or "://" in name) and not has_revision:
        refuse_revision(name, revision)
    if "://" in name:
        if fetch_remote is None:
            raise ConfigError(f"model {name!r}: expected a local folder or a hub id here, found a URI")
        return fetch_remote(name)
    if is_folder:
        return folder
    if folder.is_file():
        raise ModelError(f"model {name!r}: a file; give the folder that holds it and the model's config.json")
    if isinstance(model, Path) or not is_hub_id(name):
        raise ModelError(
            f"model {name!r}: no such folder, and not the form of a Hugging Face hub id (`owner/name`); give such an "
            "id, or the folder that holds the model's config.json"
        )
    return _download(name, revision, patterns, remedy)


def is_hub_id(model: str) -> bool:
    """Whether a name has the form of a hub id."""
    return _HUB_ID.fullmatch(model) is not None


def refuse_revision(model: str, revision: str | None) -> None:
    """Raises ConfigError if a revision is given for what has none."""
    if revision is not None:
        raise ConfigError(f"model {model!r}: a revision ({revision!r}) is for hub ids only; leave it out")


def find_hub_commit(folder: Path) -> str | None:
    """Commit hash of a folder in the hub's cache, else None.

    The cache keeps a commit's files under `snapshots/<commit hash>`.
    """
    return folder.name if folder.parent.name == "snapshots" else None


def _download(model: str, revision: str | None, patterns: Sequence[str], remedy: str) -> Path:
    at = f"{model!r}" if revision is None else f"{model!r} at revision {revision!r}"
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(patterns)))
    except RevisionNotFoundError as error:
        raise ModelError(f"model {at}: the Hugging Face hub has the model but not this revision") from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"model {at}: no local folder of this name, and the Hugging Face hub has no such public model "
            "(a private or gated one needs HF_TOKEN)"
        ) from error
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"model {at}: no local folder of this name, the Hugging Face hub cannot be reached, and its cache on "
            f"this machine does not hold the model. {remedy}"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise ModelError(f"model {at}: the download from the Hugging Face hub failed: {error}. {remedy}") from error
