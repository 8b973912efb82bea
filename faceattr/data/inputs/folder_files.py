"""Which files in a folder are images of a run: the same rule for label, pack, predict and `faceattr predict`.

Members of tar files are counted by the same rule, but that one without an extension is not a row. Only names decide, so
that listing a bucket never reads an object:

    row       the extension is that of an image, of any kind, or there is none; the first bytes decide when it is read
    skipped   files that operating systems leave in photo folders: `._a.jpg`, `.DS_Store`, `Thumbs.db`, `desktop.ini`
    other     everything else, counted by extension

So every file in a folder is a row or is counted.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self, TypeVar

from faceattr.data.stores.store import ObjectInfo

_T = TypeVar("_T")

DECODED_EXTENSIONS = frozenset(
    [
        *(".avif", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".png", ".webp", ".bmp", ".dib", ".gif"),
        *(".tif", ".tiff"),
    ]
)
# Also images: such a file is rejected with its format, or contains a JPEG under a wrong name.
_OTHER_IMAGE_EXTENSIONS = frozenset(
    [
        *(".apng", ".heic", ".heif", ".heics", ".heifs", ".hif", ".avci", ".avifs", ".jxl", ".jxr", ".wdp"),
        *(".hdp", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".jpm", ".jph", ".jps", ".jng", ".mng", ".bpg"),
        *(".flif", ".qoi", ".psd", ".psb", ".xcf", ".ico", ".cur", ".icns", ".svg", ".svgz", ".tga", ".pcx"),
        *(".dds", ".exr", ".hdr", ".pbm", ".pgm", ".ppm", ".pnm", ".pam", ".pfm", ".sgi", ".ras", ".xbm", ".xpm"),
        *(".wmf", ".emf", ".pict", ".pct", ".dng", ".raw", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2"),
        *(".srf", ".srw", ".orf", ".rw2", ".rwl", ".raf", ".pef", ".x3f", ".3fr", ".fff", ".dcr", ".kdc", ".mrw"),
        *(".erf", ".mef", ".mos", ".iiq", ".gpr"),
    ]
)
IMAGE_EXTENSIONS = DECODED_EXTENSIONS | _OTHER_IMAGE_EXTENSIONS
NO_EXTENSION = "no extension"
_COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
_SYSTEM_FILES = {name.lower(): name for name in (".DS_Store", "Thumbs.db", "ehthumbs.db", "desktop.ini")}
_APPLE_DOUBLE = "._"
# What follows the last dot of "J. Smith" or of a long random name is not an extension.
_EXTENSION = re.compile(r"\.[a-z0-9_~+-]{1,16}")
_MOST_KINDS = 1_000
_REST = "further endings"
_MOST_SHOWN = 8


def extension_of(key: str) -> str:
    """Returns the extension of a name in lower case, with its dot; empty if it has none."""
    name = key.rpartition("/")[2]
    found = f".{name.rpartition('.')[2].lower()}" if "." in name else ""
    if name.rpartition(".")[0] == "" and found not in IMAGE_EXTENSIONS:
        return ""  # .gitignore
    return found if _EXTENSION.fullmatch(found) else ""


def is_image_name(key: str) -> bool:
    """Whether the extension is that of an image, decodable or not, and the file is not an operating system's."""
    return extension_of(key) in IMAGE_EXTENSIONS and _system_file(key) is None


def is_table_name(key: str) -> bool:
    """Whether a folder's file is a Parquet file to read; files under `_` or `.` belong to other programs."""
    return extension_of(key) == ".parquet" and not any(part.startswith(("_", ".")) for part in key.split("/"))


def is_tar_name(key: str) -> bool:
    """Whether a folder's file is a tar file to read; files under `_` or `.` belong to other programs."""
    return extension_of(key) == ".tar" and not any(part.startswith(("_", ".")) for part in key.split("/"))


def is_compressed_tar(key: str) -> bool:
    """Whether the name is that of a tar file that has to be unpacked first."""
    return key.lower().endswith(_COMPRESSED_TARS)


def _system_file(key: str) -> str | None:
    name = key.rpartition("/")[2]
    return "._*" if name.startswith(_APPLE_DOUBLE) else _SYSTEM_FILES.get(name.lower())


class FolderFiles:
    """Counts the files of a folder: rows and other files.

    Attributes:
        num_rows: files that are rows.
        other: files that are not images, by extension.
        skipped: files of operating systems, by name.
    """

    def __init__(self) -> None:
        self.num_rows = 0
        self.other: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self._num_unfinished = 0

    @property
    def is_complete(self) -> bool:
        """Whether the listings were read to their ends; `--limit` stops earlier."""
        return self._num_unfinished == 0

    @property
    def num_files(self) -> int:
        """All files that were counted."""
        return self.num_rows + self.other.total() + self.skipped.total()

    def rows(self, listing: Iterable[ObjectInfo]) -> Iterator[ObjectInfo]:
        """Yields the files of a listing that are rows; counts all of them."""
        self._num_unfinished += 1
        for entry in listing:
            if self.add(entry.key):
                yield entry
        self._num_unfinished -= 1

    def add(self, key: str) -> bool:
        """Counts a file and returns whether it is a row."""
        system_file = _system_file(key)
        if system_file is not None:
            self.skipped[system_file] += 1
            return False
        extension = extension_of(key)
        kind = extension or _hidden_name(key)
        if not kind or extension in IMAGE_EXTENSIONS:
            self.num_rows += 1
            return True
        self._add_other(kind)
        return False

    def add_member(self, name: str) -> bool:
        """Counts a member of a tar file and returns whether it is a row: one without an extension is not."""
        if is_image_name(name) or _system_file(name) is not None:
            return self.add(name)
        self._add_other(extension_of(name) or NO_EXTENSION)
        return False

    def counted(self, parts: Iterable[tuple[_T, Self]]) -> Iterator[_T]:
        """Yields what comes with the counts of its files; adds these counts."""
        self._num_unfinished += 1
        for item, part in parts:
            self.num_rows += part.num_rows
            self.skipped.update(part.skipped)
            for kind, count in part.other.items():
                self._add_other(kind, count)
            yield item
        self._num_unfinished -= 1

    def _add_other(self, kind: str, count: int = 1) -> None:
        self.other[kind if kind in self.other or len(self.other) < _MOST_KINDS else _REST] += count

    def take_files(self, num_files: int, ending: str) -> None:
        """Recounts a folder without images: its files of one ending are the input, those without an ending are not."""
        self.other[ending] -= num_files
        self.other[NO_EXTENSION] += self.num_rows
        self.other = +self.other  # drops zero counts
        self.num_rows = 0

    def to_json(self) -> dict[str, Any]:
        """Returns the plain form, for run.json."""
        return {
            "rows": self.num_rows,
            "other": _commonest_first(self.other),
            "skipped": _commonest_first(self.skipped),
            "is_complete": self.is_complete,
        }


def _commonest_first(kinds: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(kinds.items(), key=lambda item: (-item[1], item[0])))


def _hidden_name(key: str) -> str:
    """Returns the name under which a hidden file without an extension is counted: `.git/`, `.gitignore`; else empty."""
    *folders, name = key.split("/")
    hidden = next((f"{folder}/" for folder in folders if folder.startswith(".") and folder.strip(".")), "")
    return hidden or (name if name.startswith(".") else "")


def describe_files(files: Mapping[str, Any] | None) -> list[str]:
    """Returns summary lines about the files that are not rows: one line per group, none if there are none.

    Args:
        files: the result of `FolderFiles.to_json`; None for a run whose input was not a folder, or that started before
            files were counted.
    """
    if files is None:
        return []
    seen = "" if files["is_complete"] else ", among the files up to --limit"
    lines = []
    for kinds, what in ((files["other"], "no images"), (files["skipped"], "skipped, of the operating system")):
        if not kinds:
            continue
        shown = [f"{kind} {count:,}" for kind, count in list(kinds.items())[:_MOST_SHOWN]]
        more = [f"{len(kinds) - _MOST_SHOWN} further"] if len(kinds) > _MOST_SHOWN else []
        lines.append(f"other files, {what}: {sum(kinds.values()):,} ({', '.join(shown + more)}){seen}")
    return lines
