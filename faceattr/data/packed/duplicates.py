"""Byte-identical images and what their labels say: copies whose labels cannot all be true are listed.

Labels conflict if nothing fits them all: different classes, coarse labels without a common class, age ranges that do
not meet. An unknown label conflicts with nothing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.runs.repeated_keys import RepeatedKeys


@dataclass(frozen=True, kw_only=True)
class DuplicateGroup:
    """Images with the same bytes.

    Attributes:
        sha256: of the bytes.
        image_ids: sorted.
        conflicts: names of the attributes whose labels cannot all be true.
    """

    sha256: str
    image_ids: tuple[str, ...]
    conflicts: tuple[str, ...]


def find_duplicates(read: Callable[[], Iterable[pa.Table]], attributes: AttributeSet) -> list[DuplicateGroup]:
    """All groups of byte-identical images, by sha256. Two passes; only rows of repeated contents are held.

    Args:
        read: a new pass over tables in a source's schema, with sha256 filled in.
        attributes: whose labels are compared.
    """
    with RepeatedKeys() as contents:
        for table in read():
            contents.add(pc.drop_null(table["sha256"]))
        repeated = contents.hashes()
    found: dict[str, list[dict[str, Any]]] = {}
    for table in read() if repeated else ():
        texts = table["sha256"].to_pylist()
        places = [place for place, text in enumerate(texts) if text and RepeatedKeys.hash(text) in repeated]
        for row in table.take(places).to_pylist():
            found.setdefault(row["sha256"], []).append(row)
    return [
        DuplicateGroup(
            sha256=sha256,
            image_ids=tuple(sorted(row["image_id"] for row in rows)),
            conflicts=tuple(each.name for each in attributes.attributes if _conflict(each, rows)),
        )
        for sha256, rows in sorted(found.items())
        if len(rows) > 1
    ]


def _conflict(attribute: Attribute, rows: list[dict[str, Any]]) -> bool:
    name = attribute.name
    if attribute.kind == "age":
        known = [row for row in rows if row[f"{name}_low"] is not None]
        latest_start = max((row[f"{name}_low"] for row in known), default=0)
        earliest_end = min((row[f"{name}_high"] for row in known), default=1)
        return bool(latest_start >= earliest_end)
    possible = -1  # all bits: every class
    for row in rows:
        if row[name] is not None:
            possible &= 1 << row[name]
        elif row.get(f"{name}_mask") is not None:
            possible &= row[f"{name}_mask"]
    return possible == 0
