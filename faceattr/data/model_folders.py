"""Locates the files of a model: in a folder, at a URI, or on the Hugging Face hub. For BLIP and for our own models.

A folder in object storage and a model on the hub are downloaded once per machine to a local copy.
"""

import fnmatch
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from faceattr.config import StorageConfig
from faceattr.data.stores.addresses import check_no_credentials, normalise_address
from faceattr.data.stores.keys import check_key
from faceattr.data.stores.open import open_store
from faceattr.errors import ConfigError, ModelError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
OFFLINE_REMEDY = (
    "Download it on a machine with network access and give its folder in place of the id, or point HF_HOME at a cache "
    "that holds it."
)


def locate_folder(
    model: str | Path,
    *,
    patterns: Sequence[str],
    revision: str | None = None,
    storage: StorageConfig | None = None,
    remedy: str = OFFLINE_REMEDY,
) -> Path:
    """Returns the local folder of a model, downloaded first if necessary.

    Args:
        model: a local folder, a Hugging Face hub id, or a URI such as `s3://bucket/folder`.
        patterns: patterns of the file names to download; other files are not.
        revision: branch, tag or commit hash; for hub ids only.
        storage: how object storage is reached, if the model is a URI.
        remedy: what to do when the hub cannot be reached.

    Raises:
        ConfigError, ModelError: there is no such model, or it cannot be reached.
    """
    name = str(model)
    check_no_credentials(name, "a model's address")
    if "://" in name or name.startswith(("~", "file:")):  # a hub id must not become a path
        name = normalise_address(name)
    folder = Path(name)
    is_folder = folder.is_dir()
    # A folder in the hub's cache has a revision, which a driver may pass on with it.
    has_revision = is_folder and revision == find_hub_commit(folder)
    if (is_folder or "://" in name) and not has_revision:
        refuse_revision(name, revision)
    if "://" in name:
        return fetch_folder(name, storage or StorageConfig(), only=patterns)
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


def cache_folder() -> Path:
    """Returns the folder of this machine for what can be fetched or computed again: FACEATTR_CACHE, or one in HOME."""
    return Path(os.environ.get("FACEATTR_CACHE", Path.home() / ".cache" / "faceattr"))


def absolute_name(model: str) -> str:
    """Returns a name of a model that is valid in every working folder: a local folder by its absolute path.

    Workers run in other folders than the driver that was given the name.
    """
    name = normalise_address(model) if model.startswith(("~", "file:")) else model
    return str(Path(name).absolute()) if "://" not in name and Path(name).is_dir() else name


def is_hub_id(model: str) -> bool:
    """Whether a name has the form of a hub id."""
    return _HUB_ID.fullmatch(model) is not None


def refuse_revision(model: str, revision: str | None) -> None:
    """Raises ConfigError if a revision is given for a model that has none."""
    if revision is not None:
        raise ConfigError(f"model {model!r}: a revision ({revision!r}) is for hub ids only; leave it out")


def find_hub_commit(folder: Path) -> str | None:
    """Returns the commit hash of a folder in the hub's cache, else None.

    The cache stores a commit's files in `snapshots/<commit hash>`.
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


def fetch_folder(uri: str, options: StorageConfig, *, only: Collection[str] | None = None) -> Path:
    """Copies the objects below `uri` to a local folder and returns it.

    The folder is named after the objects' keys, sizes and etags, so a changed source gets another copy; it appears
    complete, by a rename.

    Args:
        uri: URI of the folder.
        options: how it is reached.
        only: patterns of the keys to copy, as in `fnmatch`; default: all.

    Raises:
        ConfigError: there are no such objects.
    """
    store = open_store(uri, options)
    entries = sorted(
        (each for each in store.list() if only is None or _matches(each.key, only)), key=lambda each: each.key
    )
    if not entries:
        raise ConfigError(f"{uri} is empty or does not exist")
    for entry in entries:
        problem = check_key(entry.key)  # the key becomes a local path
        if problem:
            raise ConfigError(f"{uri}: object {entry.key!r}: {problem}")
    content = "\n".join(f"{entry.key} {entry.num_bytes} {entry.etag}" for entry in entries)
    cache = cache_folder()
    folder = cache / hashlib.sha256(f"{uri}\n{content}".encode()).hexdigest()[:24]
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".tmp-", dir=cache))
    try:
        for entry in entries:
            path = fresh / entry.key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(store.get(entry.key, listed=entry))
        try:
            fresh.rename(folder)
        except OSError:  # another process was first; its copy is the same
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def _matches(key: str, patterns: Collection[str]) -> bool:
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)
