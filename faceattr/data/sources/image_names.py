"""Image names of foreign layouts as keys below one root."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from faceattr.config import StorageConfig
from faceattr.data.inputs.folder_files import FolderFiles, is_image_name
from faceattr.data.sources.source import REFUSED_WITH_CREDENTIALS, BadRow
from faceattr.data.stores.addresses import check_no_credentials, find_credentials, key_below, normalise_address
from faceattr.data.stores.keys import check_key, join_uri
from faceattr.data.stores.open import open_store
from faceattr.data.stores.store import Store


@dataclass(frozen=True, kw_only=True)
class ImageRoot:
    """Where the images of a source lie.

    Attributes:
        uri: root.
        folder: folder below it that names in the layout are relative to; empty or ending in `/`.
        endings: what names end in, and what the files end in, where that is not the same.
    """

    uri: str
    folder: str = ""
    endings: tuple[str, str] | None = None

    def columns(self, name: str) -> dict[str, str]:
        """`image_id` and `uri` of an image by the name that the layout gives it.

        Raises:
            BadRow: the name does not lie below the root, or holds credentials.
        """
        found = find_credentials(name)
        if found is not None:
            raise BadRow(REFUSED_WITH_CREDENTIALS, f"an image's address must not hold credentials, found {found}")
        text = name.replace("\\", "/").removeprefix("./")
        whole = key_below(text, self.uri)
        problem = check_key(whole)
        if problem:
            raise BadRow("path", f"the image name {name!r} cannot be used: {problem}")
        # Names that already stand below the root, or already begin with the folder, do not get it once more.
        key = whole if whole != text or (self.folder and text.startswith(self.folder)) else f"{self.folder}{whole}"
        if self.endings is not None and key.endswith(self.endings[0]):
            key = f"{key.removesuffix(self.endings[0])}{self.endings[1]}"
        return {"image_id": key, "uri": join_uri(self.uri, key)}


def find_image_root(
    root: str, storage: StorageConfig, folder: str | None, *, usual: Sequence[str] = ()
) -> tuple[Store, ImageRoot]:
    """The store of a source and where its images lie.

    Args:
        root: URI of the source.
        storage: how to reach it.
        folder: folder below the root as the user gave it; None looks for the `usual` ones, the first that holds an
            object wins, and takes the root itself if there is none of them.
        usual: folders where the layout often has its images.
    """
    check_no_credentials(folder or "", "image_folder")
    store = open_store(root, storage)
    if folder is None:
        folder = next((each for each in usual if next(store.list(f"{each}/"), None) is not None), "")
    folder = f"{folder.strip('/')}/" if folder.strip("/.") else ""
    return store, ImageRoot(uri=store.uri, folder=folder)


def match_ending(store: Store, images: ImageRoot, name: str) -> ImageRoot:
    """The same place, for files that have another ending than their names in the layout, as PNG copies of CelebA do.

    Args:
        store: of the source.
        images: where the images lie.
        name: of one image, as the layout gives it.
    """
    key = images.columns(name)["image_id"]
    stem, dot, ending = key.rpartition(".")
    there = [each.key for each in itertools.islice(store.list(f"{stem}."), 10)] if dot else []
    others = [each for each in there if is_image_name(each) and "/" not in each.removeprefix(stem)]
    if key in there or len(others) != 1:
        return images
    return replace(images, endings=(f".{ending}", others[0].removeprefix(stem)))


def image_keys(store: Store, prefix: str, files: FolderFiles) -> Iterator[str]:
    """Keys of the images below a prefix, streaming, in the store's own order; all other files are counted."""
    for entry in files.rows(store.list(prefix)):
        yield entry.key


def find_files(store: Store, given: Sequence[str], usual: Sequence[str]) -> tuple[str, ...]:
    """URIs of the label files: the given ones, else those of the usual names that are there, in that order."""
    if given:
        for name in given:
            check_no_credentials(name, "files")
        return tuple(_place_file(store.uri, name) for name in given)
    return tuple(join_uri(store.uri, name) for name in usual if any(each.key == name for each in store.list(name)))


def _place_file(root: str, name: str) -> str:
    """A file by its key below the root, or by an address of its own."""
    has_place = name.startswith(("/", "~")) or ":/" in name
    return normalise_address(name) if has_place else join_uri(root, name.removeprefix("./"))
