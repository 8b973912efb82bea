"""Lists of image pairs for verification: CSV with the columns first, second, same and perhaps fold."""

from dataclasses import dataclass

from faceattr.config import StorageConfig
from faceattr.data.formats.text_structure import table_error
from faceattr.data.formats.text_tables import read_header, read_rows, sniff_delimiter

_NEEDED = ("first", "second", "same")
_SAME = {"1": True, "0": False}


@dataclass(frozen=True, kw_only=True)
class ImagePair:
    """One pair.

    Attributes:
        first: `image_id` of one image.
        second: `image_id` of the other.
        same: whether they show the same person.
        fold: number of its fold; None without a column `fold`.
    """

    first: str
    second: str
    same: bool
    fold: int | None


def read_pairs(uri: str, storage: StorageConfig) -> list[ImagePair]:
    """Reads a list of pairs.

    Raises:
        ConfigError: it is not a text table with these columns; the error names the line.
    """
    delimiter = sniff_delimiter(uri, storage)
    names = read_header(uri, storage, delimiter=delimiter)
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        raise table_error(uri, 1, f"no column {missing[0]!r}; expected first, second, same and perhaps fold")
    pairs = []
    rows = read_rows(uri, storage, delimiter=delimiter)
    next(rows)
    for row in rows:
        cells = dict(zip(names, (cell.strip() for cell in row.cells), strict=False))
        if len(row.cells) != len(names):
            raise table_error(uri, row.line, f"{len(row.cells)} cells; expected {len(names)}")
        if cells["same"] not in _SAME:
            raise table_error(uri, row.line, f"same is {cells['same']!r}; expected 1 or 0")
        fold = cells.get("fold")
        if fold is not None and not fold.isdecimal():
            raise table_error(uri, row.line, f"fold is {fold!r}; expected a number")
        pairs.append(
            ImagePair(
                first=cells["first"],
                second=cells["second"],
                same=_SAME[cells["same"]],
                fold=None if fold is None else int(fold),
            )
        )
    return pairs
