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
    """The location of a source's images.

    Attributes:
        uri: root.
        folder: folder below it that names in the layout are relative to; empty or ending in `/`.
        endings: extension of the names and extension of the files, if they differ.
    """

    uri: str
    folder: str = ""
    endings: tuple[str, str] | None = None

    def columns(self, name: str) -> dict[str, str]:
        """Returns `image_id` and `uri` of an image from its name in the layout.

        Raises:
            BadRow: the name is not below the root, or contains credentials.
        """
        found = find_credentials(name)
        if found is not None:
            raise BadRow(REFUSED_WITH_CREDENTIALS, f"an image's address must not hold credentials, found {found}")
        text = name.replace("\\", "/").removeprefix("./")
        whole = key_below(text, self.uri)
        problem = check_key(whole)
        if problem:
            raise BadRow("path", f"the image name {name!r} cannot be used: {problem}")
        # Names that are already below the root, or start with the folder, do not get the folder again.
        key = whole if whole != text or (self.folder and text.startswith(self.folder)) else f"{self.folder}{whole}"
        if self.endings is not None and key.endswith(self.endings[0]):
            key = f"{key.removesuffix(self.endings[0])}{self.endings[1]}"
        return {"image_id": key, "uri": join_uri(self.uri, key)}


def find_image_root(
    root: str, storage: StorageConfig, folder: str | None, *, usual: Sequence[str] = ()
) -> tuple[Store, ImageRoot]:
    """Returns the store of a source and the location of its images.

    Args:
        root: URI of the source.
        storage: how it is reached.
        folder: folder below the root as given by the user; None: the first of the `usual` ones that contains an object,
            or the root itself.
        usual: folders where the layout often has its images.
    """
    check_no_credentials(folder or "", "image_folder")
    store = open_store(root, storage)
    if folder is None:
        folder = next((each for each in usual if next(store.list(f"{each}/"), None) is not None), "")
    folder = f"{folder.strip('/')}/" if folder.strip("/.") else ""
    return store, ImageRoot(uri=store.uri, folder=folder)


def match_ending(store: Store, images: ImageRoot, name: str) -> ImageRoot:
    """Returns the same location for files whose extension differs from the layout's, as in PNG copies of CelebA.

    Args:
        store: store of the source.
        images: location of the images.
        name: name of one image, as the layout has it.
    """
    key = images.columns(name)["image_id"]
    stem, dot, ending = key.rpartition(".")
    there = [each.key for each in itertools.islice(store.list(f"{stem}."), 10)] if dot else []
    others = [each for each in there if is_image_name(each) and "/" not in each.removeprefix(stem)]
    if key in there or len(others) != 1:
        return images
    return replace(images, endings=(f".{ending}", others[0].removeprefix(stem)))


def image_keys(store: Store, prefix: str, files: FolderFiles) -> Iterator[str]:
    """Yields keys of the images below a prefix, in the store's own order; all other files are counted."""
    for entry in files.rows(store.list(prefix)):
        yield entry.key


def find_files(store: Store, given: Sequence[str], usual: Sequence[str]) -> tuple[str, ...]:
    """Returns URIs of the label files: the given ones, else the existing ones of the usual names, in that order."""
    if given:
        for name in given:
            check_no_credentials(name, "files")
        return tuple(_place_file(store.uri, name) for name in given)
    return tuple(join_uri(store.uri, name) for name in usual if any(each.key == name for each in store.list(name)))


def _place_file(root: str, name: str) -> str:
    """Returns the address of a file given by its key below the root, or by its own address."""
    has_place = name.startswith(("/", "~")) or ":/" in name
    return normalise_address(name) if has_place else join_uri(root, name.removeprefix("./"))
