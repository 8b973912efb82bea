"""The first stages of the streams that label and predict images: list the pending rows, read the images.

Each stage is a small picklable object that maps Arrow tables; a row that fails keeps its reason, and no row is dropped.
Ray runs them as tasks and shows them under their class names. No torch here, so a process that reads starts quickly.
"""

import functools
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa

from faceattr.config import ImageLimitsConfig, StorageConfig
from faceattr.data.images.decode import describe_too_large
from faceattr.data.inputs.image_column import ImageColumn, read_row_groups
from faceattr.data.inputs.object_reader import ObjectReader, root_of
from faceattr.data.inputs.tar_images import read_tar_rows
from faceattr.data.runs.commit import OK
from faceattr.data.runs.pending import PendingShards
from faceattr.data.runs.plan import Plan, read_shards
from faceattr.data.stores.bounded_reads import read_within
from faceattr.data.stores.open import open_store
from faceattr.data.stores.store import Store
from faceattr.errors import ImageError
from faceattr.jobs.cluster.milestones import reach

# Bytes of encoded images that are being read or wait for their turn, and of images in one table. A reading process
# holds both a few times: as bytes, in the table, and in the object store on the way to the next stage.
_ROOM_BYTES = 64 * 2**20
_TABLE_BYTES = 32 * 2**20


@functools.lru_cache(maxsize=16)
def process_store(uri: str, options: StorageConfig) -> Store:
    """Returns this process's only client of a store, so that blocks of the same worker reuse its connections."""
    return open_store(uri, options)


@functools.lru_cache(maxsize=256)
def _process_reader(uri: str, options: StorageConfig, limits: ImageLimitsConfig) -> ObjectReader:
    """Returns this process's only reader; it remembers an object that could be read."""
    return ObjectReader(process_store(uri, options), limits)


@dataclass(frozen=True)
class ListRows:
    """Numbers of plan parts -> the plan rows in them that are still pending."""

    run_uri: str
    storage: StorageConfig
    work: PendingShards

    def __call__(self, parts: pa.Table) -> pa.Table:
        """Lists pending rows of the parts whose indices are in the column `part`."""
        store = process_store(self.run_uri, self.storage)
        plan: Plan = self.work.plan
        return pa.concat_tables(
            self.work.rows_to_do(store, read_shards(store, plan, plan.parts[index], self.work.pending))
            for index in parts["part"].to_pylist()
        )


@dataclass(frozen=True)
class ListRowGroups:
    """Like `ListRows` for packed input: one row per row group, or per few small ones, with their plan rows in it.

    So each row group is read once, by one task. (Blocks of plan rows would not stay cut at row groups: Ray Data joins
    small blocks.)
    """

    list_rows: ListRows
    block_rows: int

    def __call__(self, parts: pa.Table) -> pa.Table:
        """Returns the column `rows`: plan rows as an Arrow stream."""
        units = cut_at_row_groups(self.list_rows(parts), self.list_rows.storage, self.block_rows)
        return pa.table({"rows": pa.array(map(_to_stream, units), pa.large_binary())})


def cut_at_row_groups(rows: pa.Table, storage: StorageConfig, least_rows: int) -> Iterator[pa.Table]:
    """Cuts plan rows of packed input, in order, at ends of row groups into tables of at least `least_rows` rows."""
    files = rows["uri"].combine_chunks().dictionary_encode()
    file = files.indices.to_numpy()
    row = rows["source_row"].to_numpy()
    group = np.zeros(len(rows), np.int64)
    for number, uri in enumerate(files.dictionary.to_pylist()):
        here = file == number
        starts = [each.first_row for each in read_row_groups(uri, storage)]
        group[here] = np.searchsorted(starts, row[here], side="right")
    ends = np.flatnonzero((np.diff(file) != 0) | (np.diff(group) != 0)) + 1
    start = 0
    for end in [*ends.tolist(), len(rows)]:
        if end - start >= least_rows or end == len(rows):
            yield rows.slice(start, end - start)
            start = end


@dataclass(frozen=True)
class ReadRowGroups:
    """Row groups from `ListRowGroups` -> rows with images, as `ReadImages` returns them."""

    read: "ReadImages"

    def __call__(self, units: pa.Table) -> Iterator[pa.Table]:
        """Reads a block of row groups. Raises StorageError on an outage."""
        for unit in units["rows"]:
            yield from self.read(pa.ipc.open_stream(unit.as_buffer()).read_all())


@dataclass(frozen=True)
class ReadImages:
    """Plan rows -> the same with `data` (encoded bytes or null), `sha256`, `status` and `error`.

    An image is `missing` or `unreadable` only if the store itself says so; an outage raises and leaves rows pending.
    A table is passed on as soon as it has enough bytes, so that memory depends neither on the number of rows nor on the
    size of the images.

    Attributes:
        root: where the images are.
        storage: how they are accessed.
        limits: limits on the size of an image.
        bytes_column: for packed input, the column with the encoded images.
        table_bytes: bytes of encoded images in a table; a table of one image may have more.
        room_bytes: bytes of encoded images that are being read at the same time.
    """

    root: str
    storage: StorageConfig
    limits: ImageLimitsConfig
    bytes_column: str | None = None
    table_bytes: int = _TABLE_BYTES
    room_bytes: int = _ROOM_BYTES

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        """Reads a block of rows; packed input and tar files in their own order. Raises StorageError on an outage."""
        reach("reader", "imports done")
        if self._in_files(rows):
            rows = rows.sort_by([("uri", "ascending"), ("source_row", "ascending")])
        start, held, num_bytes = 0, list[bytes | ImageError](), 0
        for found in self._read_all(rows):
            held.append(found)
            num_bytes += _size_of(found)
            if num_bytes >= self.table_bytes or start + len(held) == len(rows):
                reach("reader", "first block")
                yield _with_images(rows.slice(start, len(held)), held)
                start, held, num_bytes = start + len(held), [], 0
        if not len(rows):
            yield _with_images(rows, [])

    def _read_all(self, rows: pa.Table) -> Iterator[bytes | ImageError]:
        """Reads with a few threads where every image is a separate object."""
        if self.bytes_column is not None:
            return self._read_packed(rows, self.bytes_column)
        names = ["uri", "image_id", "num_bytes", "source_row"]
        names += ["etag"] if "etag" in rows.column_names else []  # only a fresh listing has any
        table = rows.select(names).to_pylist()
        if self._in_files(rows):
            return read_tar_rows(table, self.storage, self.limits, room_bytes=self.room_bytes)
        by_root: dict[str, list[str]] = {}
        for row in table:
            by_root.setdefault(self._root_of(row["uri"]), []).append(row["uri"])
        read = functools.partial(self._read, others=by_root)
        items = ((row, row["num_bytes"]) for row in table)
        return read_within(read, items, room_bytes=self.room_bytes, size_of=_size_of)

    def _in_files(self, rows: pa.Table) -> bool:
        """Whether the images are parts of files: rows of Parquet files, or members of tar files."""
        return self.bytes_column is not None or rows["source_row"].null_count < len(rows)

    def _root_of(self, uri: str) -> str:
        return root_of(uri, self.root) or self.root

    def _read(
        self, row: dict[str, Any], room_bytes: int | None, others: Mapping[str, Sequence[str]]
    ) -> bytes | ImageError:
        if (row["num_bytes"] or 0) > self.limits.max_bytes:  # not fetched at all
            return describe_too_large(row["num_bytes"], self.limits)
        root = self._root_of(row["uri"])
        reader = _process_reader(root, self.storage, self.limits)
        listed = {"num_bytes": row["num_bytes"], "etag": row.get("etag")}
        return reader.read(row["uri"], others[root], room_bytes=room_bytes, **listed)

    def _read_packed(self, rows: pa.Table, column: str) -> Iterator[bytes | ImageError]:
        for uri, group in itertools.groupby(rows.select(["uri", "source_row"]).to_pylist(), itemgetter("uri")):
            places = [row["source_row"] for row in group]
            yield from ImageColumn(uri=uri, name=column, storage=self.storage).read(places, self.limits)


def _size_of(found: bytes | ImageError) -> int:
    return len(found) if isinstance(found, bytes) else 0


def _with_images(rows: pa.Table, found: Sequence[bytes | ImageError]) -> pa.Table:
    """Adds the images to the rows; one table at a time, since Arrow copies the bytes."""
    data = [value if isinstance(value, bytes) else None for value in found]
    errors = [value if isinstance(value, ImageError) else None for value in found]
    hashes = [hashlib.sha256(value).hexdigest() if value is not None else None for value in data]
    return append_columns(
        rows,
        data=pa.array(data, pa.large_binary()),
        sha256=pa.array(hashes, pa.string()),
        status=pa.array([error.reason if error else OK for error in errors], pa.string()),
        error=pa.array([error.detail if error else None for error in errors], pa.string()),
    )


def _to_stream(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return bytes(sink.getvalue())


def append_columns(table: pa.Table, **columns: pa.Array) -> pa.Table:
    """Returns the table with further columns."""
    for name, values in columns.items():
        table = table.append_column(name, values)
    return table
