"""The images of a run after they were found: the rows to plan, and their location."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from faceattr.data.inputs.folder_files import FolderFiles

InputKind = Literal["prefix", "manifest", "packed", "tar"]


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """The images of a run.

    Attributes:
        kind: how they are given.
        root: URI that they are below.
        carried: schema of the columns that are carried through to the output.
        tables: rows in `plan_schema(carried)`, readable once.
        bytes_column: for packed input, the column with the encoded images.
        files: for a folder and for tar files, the files that are not rows; complete once the tables were read.
    """

    kind: InputKind
    root: str
    carried: pa.Schema
    tables: Iterable[pa.Table]
    bytes_column: str | None = None
    files: FolderFiles | None = None
