"""Which files of a folder are images, and where what is made of them goes."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from faceattr.data.inputs import IMAGE_EXTENSIONS
from faceattr.errors import ConfigError


def find_images(source: Path) -> list[Path]:
    """The file itself, or the images of a folder and the folders in it, in string order, by ending, in any case.

    Raises:
        ConfigError: nothing is there, or the folder holds no image.
    """
    if source.is_file():
        return [source]
    if not source.exists():
        raise ConfigError(f"--input {source}: no such file or folder")
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in IMAGE_EXTENSIONS and path.is_file())
    if not found:
        others = sum(1 for path in source.rglob("*") if path.is_file())
        endings = ", ".join(sorted(IMAGE_EXTENSIONS))
        raise ConfigError(f"--input {source}: holds no image ({endings}); found {others} other files")
    return found


def find_namesakes(paths: Sequence[Path]) -> set[Path]:
    """The paths that differ from another one by their ending alone."""
    counts = Counter(path.with_suffix("") for path in paths)
    return {path for path in paths if counts[path.with_suffix("")] > 1}


def place_beside(path: Path, source: Path, output: Path, *, prefix: str = "", suffix: str = "") -> Path:
    """Where the picture of `path` goes: `output`, below it the folders between `source` and the file.

    A file that no picture can be written as, such as .webp, becomes a .jpg under its whole name.
    """
    folder = output / path.parent.relative_to(source) if source.is_dir() else output
    writable = path.suffix.lower() in (".jpg", ".jpeg", ".png")
    stem, ending = (path.stem, path.suffix) if writable else (path.name, ".jpg")
    return folder / f"{prefix}{stem}{suffix}{ending}"
