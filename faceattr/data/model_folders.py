"""A folder of object storage, such as a checkpoint, as a local copy that is downloaded once a machine."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

from faceattr.data.stores.open import StorageOptions, check_key, open_store
from faceattr.errors import ConfigError


def fetch_folder(uri: str, options: StorageOptions, *, only: Collection[str] | None = None) -> Path:
    """Local copy of what lies below `uri`. The copy is named after the objects' keys, sizes and etags, so a changed
    folder is another copy; it appears whole, by a rename.

    Args:
        uri: of the folder.
        options: how it is reached.
        only: keys to copy; everything by default.

    Raises:
        ConfigError: nothing is there.
    """
    store = open_store(uri, options)
    entries = sorted((each for each in store.list() if only is None or each.key in only), key=lambda each: each.key)
    if not entries:
        raise ConfigError(f"{uri} is empty or does not exist")
    for entry in entries:
        problem = check_key(entry.key)  # the key becomes a local path
        if problem:
            raise ConfigError(f"{uri}: object {entry.key!r}: {problem}")
    content = "\n".join(f"{entry.key} {entry.num_bytes} {entry.etag}" for entry in entries)
    cache = Path(os.environ.get("FACEATTR_CACHE", Path.home() / ".cache" / "faceattr"))
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
