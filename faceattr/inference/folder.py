"""Finds the images of a folder, and the paths of the pictures that are made of them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from faceattr.data.inputs.folder_files import DECODED_EXTENSIONS, FolderFiles, describe_files
from faceattr.data.stores.local import LocalStore
from faceattr.errors import ConfigError


def find_images(source: Path) -> tuple[list[Path], list[str]]:
    """Returns the file itself, or the images of a folder and its subfolders, in string order.

    Returns:
        The images, selected by `faceattr.data.inputs.folder_files`; and descriptions of the other files.

    Raises:
        ConfigError: the path does not exist, or the folder contains no image.
    """
    if source.is_file():
        return [source], []
    if not source.exists():
        raise ConfigError(f"--input {source}: no such file or folder")
    files = FolderFiles()
    found = sorted(source / entry.key for entry in files.rows(LocalStore(source).list()))
    others = describe_files(files.to_json())
    if not found:
        endings = ", ".join(sorted(DECODED_EXTENSIONS))
        raise ConfigError(f"--input {source}: holds no image ({endings}); found {'; '.join(others) or 'no file'}")
    return found, others


def find_namesakes(paths: Sequence[Path]) -> set[Path]:
    """Returns the paths that differ from another path only by their suffix."""
    counts = Counter(path.with_suffix("") for path in paths)
    return {path for path in paths if counts[path.with_suffix("")] > 1}


def place_beside(path: Path, source: Path, output: Path, *, prefix: str = "", suffix: str = "") -> Path:
    """Returns the output path for `path`: below `output`, with the same subfolders as below `source`.

    A file type that cannot be written, such as .webp, becomes a .jpg that keeps the whole name.
    """
    folder = output / path.parent.relative_to(source) if source.is_dir() else output
    writable = path.suffix.lower() in (".jpg", ".jpeg", ".png")
    stem, ending = (path.stem, path.suffix) if writable else (path.name, ".jpg")
    return folder / f"{prefix}{stem}{suffix}{ending}"
