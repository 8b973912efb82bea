"""Byte-identical images in one table: contradicting labels, and rows of several tables over one image.

Copies are found by sha256, so a table must contain all copies of each of its images, as a bucket of
`data/packed/shuffle.py` does. Copies with contradicting labels are listed.

Labels conflict if no label satisfies them all: different classes, coarse labels without a common class, age ranges
that do not overlap. An unknown label conflicts with nothing.
"""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.formats.csv_cells import neutralise
from faceattr.data.formats.repeated_keys import RepeatedKeys
from faceattr.data.label_columns import label_fields
from faceattr.data.sources.label_values import label_texts

Policy = Literal["mask", "keep", "drop"]
CSV_HEADER = ("sha256", "attribute", "image_id", "label")


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """The label of one copy in a conflict.

    Attributes:
        sha256: sha256 of the image.
        attribute: attribute whose labels contradict each other.
        image_id: id of the copy.
        label: label as text, see `label_texts`; empty if this copy's label is unknown.
    """

    sha256: str
    attribute: str
    image_id: str
    label: str


class CopyResolver:
    """Processes tables in a source's schema with a column `place`, the number of the source that a row is from.

    Args:
        attributes: attributes of the label columns.
        policy: how conflicts are resolved: labels are set to unknown, kept, or their images left out.

    Attributes:
        conflicts: every copy's label in every conflict so far. They are kept in memory: conflicts are few.
        num_contents: number of different images with a conflict.
        num_masked: number of labels set to unknown.
        num_dropped: number of rows left out.
        num_merged: number of rows that were merged into another one.
    """

    def __init__(self, attributes: AttributeSet, policy: Policy) -> None:
        self.conflicts: list[Conflict] = []
        self.num_contents = 0
        self.num_masked = 0
        self.num_dropped = 0
        self.num_merged = 0
        self._attributes = attributes
        self._policy = policy

    def resolve(self, table: pa.Table) -> pa.Table:
        """Returns the rows to pack, in order: conflicts resolved, copies from several tables merged into one row."""
        groups = [group for group in find_duplicates(lambda: [table], self._attributes) if group.conflicts]
        self.num_contents += len(groups)
        found = {group.sha256: group.conflicts for group in groups}
        if found:
            table = self._treat(table, found)
        return self._merge(table) if len(pc.unique(table["place"])) > 1 else table

    def _treat(self, table: pa.Table, found: dict[str, tuple[str, ...]]) -> pa.Table:
        contents = table["sha256"].to_pylist()
        is_hit = np.array([content in found for content in contents])
        self._record(table.filter(pa.array(is_hit)), found)
        if self._policy == "drop":
            self.num_dropped += int(is_hit.sum())
            return table.filter(pa.array(~is_hit))
        if self._policy == "mask":
            for attribute in self._attributes.attributes:
                hit = np.array([attribute.name in found.get(content, ()) for content in contents])
                table, num_masked = mask_labels(table, attribute, hit)
                self.num_masked += num_masked
        return table

    def _record(self, rows: pa.Table, found: dict[str, tuple[str, ...]]) -> None:
        texts = {each.name: label_texts(each, rows) for each in self._attributes.attributes}
        ids = zip(rows["sha256"].to_pylist(), rows["image_id"].to_pylist(), strict=True)
        for place, (content, image_id) in enumerate(ids):
            self.conflicts += [
                Conflict(sha256=content, attribute=name, image_id=image_id, label=texts[name][place])
                for name in found[content]
            ]

    def _merge(self, table: pa.Table) -> pa.Table:
        """Merges copies from different tables: an image's n-th copy in one and its n-th copy in another become one row.

        Names and labels of the first table take precedence. A score must belong to the label: the score of a table that
        did not provide the label of the image, since it abstained or was overruled, would be learnt in its place.
        """
        order = table.append_column("order", pa.array(np.arange(len(table)))).sort_by(
            [("sha256", "ascending"), ("place", "ascending"), ("order", "ascending")]
        )
        order = order.append_column("copy", _count_copies(order))
        # An image that could not be read has no sha256 to be matched by.
        unread, read = order.filter(pc.is_null(order["sha256"])), order.filter(pc.is_valid(order["sha256"]))
        for attribute in self._attributes.attributes:
            read = _forget_other_scores(read, attribute)
        names = [name for name in table.column_names if name != "sha256"]
        merged = read.group_by(["sha256", "copy"], use_threads=False).aggregate(
            [(name, "first") for name in names] + [("order", "first")]
        )
        merged = merged.rename_columns(["sha256", "copy", *names, "order"])
        self.num_merged += len(read) - len(merged)
        columns = [*table.column_names, "order"]
        whole = pa.concat_tables([unread.select(columns), merged.select(columns).cast(unread.select(columns).schema)])
        return self._one_kind_of_label(whole.sort_by("order").select(table.column_names))

    def _one_kind_of_label(self, table: pa.Table) -> pa.Table:
        """If one table has a class and another a set of classes, the class is kept."""
        for attribute in self._attributes.attributes:
            name = f"{attribute.name}_mask"
            if name in table.column_names:
                exact = pc.is_valid(table[attribute.name])
                kept = pc.if_else(exact, pa.scalar(None, pa.int64()), table[name])
                table = table.set_column(table.column_names.index(name), table.schema.field(name), kept)
        return table


def mask_labels(table: pa.Table, attribute: Attribute, hit: np.ndarray) -> tuple[pa.Table, int]:
    """Sets the labels of one attribute, and their scores, to unknown in the rows of `hit`, bool [n].

    Returns:
        The table, and the number of labels that were known before.
    """
    names = [field.name for field in label_fields(attribute, scored=True) if field.name in table.column_names]
    num_masked = 0
    for name in names:
        place = table.column_names.index(name)
        field, column = table.schema.field(name), table[name]
        kept = pc.if_else(pa.array(hit, pa.bool_()), pa.scalar(None, field.type), column)
        if name == names[0]:
            num_masked = kept.null_count - column.null_count
        table = table.set_column(place, field, kept)
    return table, num_masked


def _forget_other_scores(rows: pa.Table, attribute: Attribute) -> pa.Table:
    """Removes the scores of an attribute from all rows of an image except the one whose label is used.

    Args:
        rows: sorted by sha256 and place, with `copy`; rows of one image have equal `sha256` and `copy`.
        attribute: the attribute.
    """
    name = attribute.name
    soft = [each for each in (f"{name}_score", f"{name}_mass") if each in rows.column_names]
    if not soft or not len(rows):
        return rows
    # A class takes precedence over a set of classes, as in the merged row.
    giving = [each for each in (name, f"{name}_mask") if each in rows.column_names]
    givers = np.concatenate([np.flatnonzero(rows[each].is_valid()) for each in giving])
    contents = rows["sha256"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    image = contents * len(rows) + rows["copy"].to_numpy()
    labelled, first = np.unique(image[givers], return_index=True)
    is_other = np.isin(image, labelled)
    is_other[givers[first]] = False
    for column in soft:
        field = rows.schema.field(column)
        kept = pc.if_else(pa.array(is_other), pa.scalar(None, field.type), rows[column])
        rows = rows.set_column(rows.column_names.index(column), field, kept)
    return rows


def _count_copies(rows: pa.Table) -> pa.Array:
    """Returns the number of each row among the adjacent rows of the same image and place: int64 [n]."""
    contents = pc.fill_null(rows["sha256"], "").combine_chunks().dictionary_encode().indices.to_numpy()
    places = rows["place"].to_numpy()
    begins = np.ones(len(rows), bool)
    begins[1:] = (contents[1:] != contents[:-1]) | (places[1:] != places[:-1])
    numbers = np.arange(len(rows))
    return pa.array(numbers - np.maximum.accumulate(np.where(begins, numbers, 0)))


def encode_conflicts(conflicts: Sequence[Conflict]) -> bytes:
    """Returns the list as CSV."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    ordered = sorted(conflicts, key=lambda each: (each.sha256, each.attribute, each.image_id))
    writer.writerows(
        (each.sha256, each.attribute, neutralise(each.image_id), neutralise(each.label)) for each in ordered
    )
    return buffer.getvalue().encode()


@dataclass(frozen=True, kw_only=True)
class DuplicateGroup:
    """Images with the same bytes.

    Attributes:
        sha256: sha256 of the bytes.
        image_ids: ids, sorted.
        conflicts: names of the attributes whose labels contradict each other.
    """

    sha256: str
    image_ids: tuple[str, ...]
    conflicts: tuple[str, ...]


def find_duplicates(read: Callable[[], Iterable[pa.Table]], attributes: AttributeSet) -> list[DuplicateGroup]:
    """Returns all groups of byte-identical images, sorted by sha256.

    Reads the tables twice; only rows of repeated images are kept in memory.

    Args:
        read: starts a new pass over tables in a source's schema, with sha256 filled in.
        attributes: attributes whose labels are compared.
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
    if attribute.is_years:
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
