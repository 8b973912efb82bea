"""What the images of a run are, once they are found: rows to be planned, and where they lie."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from faceattr.data.inputs.folder_files import FolderFiles

InputKind = Literal["prefix", "manifest", "packed"]


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """The images of a run.

    Attributes:
        kind: how they are given.
        root: URI below which they lie.
        carried: schema of the columns that are carried through to the output.
        tables: rows in `plan_schema(carried)`, to be read once.
        bytes_column: for packed input, the column with the encoded images.
        files: of a folder: what it holds that is no row; complete once the tables are read.
    """

    kind: InputKind
    root: str
    carried: pa.Schema
    tables: Iterable[pa.Table]
    bytes_column: str | None = None
    files: FolderFiles | None = None
