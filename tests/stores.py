"""Folders put into object storage, for tests that read them back from there."""

from pathlib import Path

from faceattr.data.stores.open import open_store


def upload_folder(folder: Path, uri: str) -> None:
    """Copies every file of a folder below a URI."""
    store = open_store(uri)
    for path in folder.rglob("*"):
        if path.is_file():
            store.put(str(path.relative_to(folder)), path.read_bytes())
