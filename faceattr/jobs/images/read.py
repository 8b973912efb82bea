"""The first stages of every image stream: list the rows to do, read the images.

Each is a small picklable object that maps Arrow tables; a row that fails carries its reason on, and no row is dropped.
Ray runs them as tasks and shows them under their class names. No torch here: a process that reads starts at once.
"""

import functools
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa

from faceattr.config import ImageLimitsConfig, StorageConfig
from faceattr.data.images.decode import describe_too_large
from faceattr.data.inputs.image_column import ImageColumn, read_row_groups
from faceattr.data.inputs.object_reader import ObjectReader
from faceattr.data.runs.commit import OK
from faceattr.data.runs.pending import PendingShards
from faceattr.data.runs.plan import Plan, read_shards
from faceattr.data.stores.bounded_reads import read_within
from faceattr.data.stores.open import open_store
from faceattr.data.stores.store import Store
from faceattr.errors import ImageError

# Of encoded images that are being read or wait for their turn, and in a table that is passed on. A process that reads
# holds both a few times: as bytes, in the table, and in the object store on the way to the next stage.
_ROOM_BYTES = 64 * 2**20
_TABLE_BYTES = 32 * 2**20


@functools.lru_cache(maxsize=16)
def process_store(uri: str, options: StorageConfig) -> Store:
    """One client a process: connections are reused over the blocks that a worker handles."""
    return open_store(uri, options)


@functools.lru_cache(maxsize=16)
def _process_reader(uri: str, options: StorageConfig, limits: ImageLimitsConfig) -> ObjectReader:
    """One reader a process: it remembers an object that could be read."""
    return ObjectReader(process_store(uri, options), limits)


@dataclass(frozen=True)
class ListRows:
    """Numbers of plan parts -> the plan rows in them that are still to be done."""

    run_uri: str
    storage: StorageConfig
    work: PendingShards

    def __call__(self, parts: pa.Table) -> pa.Table:
        """Rows of the parts whose indices stand in the column `part`."""
        store = process_store(self.run_uri, self.storage)
        plan: Plan = self.work.plan
        return pa.concat_tables(
            self.work.rows_to_do(store, read_shards(store, plan, plan.parts[index], self.work.pending))
            for index in parts["part"].to_pylist()
        )


@dataclass(frozen=True)
class ListRowGroups:
    """As `ListRows` for packed input: one row for each row group, or some small ones, with their plan rows in it.

    So each row group is read by one task, once. (Blocks of plan rows would not stay cut at row groups: Ray Data joins
    small blocks.)
    """

    list_rows: ListRows
    block_rows: int

    def __call__(self, parts: pa.Table) -> pa.Table:
        """Column `rows`: plan rows as an Arrow stream."""
        units = cut_at_row_groups(self.list_rows(parts), self.list_rows.storage, self.block_rows)
        return pa.table({"rows": pa.array(map(_to_stream, units), pa.large_binary())})


def cut_at_row_groups(rows: pa.Table, storage: StorageConfig, least_rows: int) -> Iterator[pa.Table]:
    """Plan rows of packed input, in order, cut where a row group ends, into tables of at least `least_rows`."""
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
    """Row groups from `ListRowGroups` -> rows with images, as `ReadImages` gives them."""

    read: "ReadImages"

    def __call__(self, units: pa.Table) -> Iterator[pa.Table]:
        """Reads a block of row groups. Raises StorageError on an outage."""
        for unit in units["rows"]:
            yield from self.read(pa.ipc.open_stream(unit.as_buffer()).read_all())


@dataclass(frozen=True)
class ReadImages:
    """Plan rows -> the same with `data` (encoded bytes or null), `sha256`, `status` and `error`.

    Only the store's own word makes an image `missing` or `unreadable`; an outage raises and leaves the rows undone.
    Rows are passed on as soon as there are enough bytes of them, so that memory follows neither from the number of rows
    nor from the size of the images.

    Attributes:
        root: where the images lie.
        storage: how they are reached.
        limits: what an image may be.
        bytes_column: for packed input, the column with the encoded images.
        table_bytes: of encoded images in a table; one image may have more.
        room_bytes: of encoded images that are being read.
    """

    root: str
    storage: StorageConfig
    limits: ImageLimitsConfig
    bytes_column: str | None = None
    table_bytes: int = _TABLE_BYTES
    room_bytes: int = _ROOM_BYTES

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        """Reads a block of rows; those of packed input in their files' order. Raises StorageError on an outage."""
        if self.bytes_column is not None:
            rows = rows.sort_by([("uri", "ascending"), ("source_row", "ascending")])
        start, held, num_bytes = 0, list[bytes | ImageError](), 0
        for found in self._read_all(rows):
            held.append(found)
            num_bytes += _size_of(found)
            if num_bytes >= self.table_bytes or start + len(held) == len(rows):
                yield _with_images(rows.slice(start, len(held)), held)
                start, held, num_bytes = start + len(held), [], 0
        if not len(rows):
            yield _with_images(rows, [])

    def _read_all(self, rows: pa.Table) -> Iterator[bytes | ImageError]:
        """With a few threads where every image is an object of its own."""
        if self.bytes_column is not None:
            return self._read_packed(rows, self.bytes_column)
        names = ["uri", "image_id", "num_bytes", "source_row"]
        names += ["etag"] if "etag" in rows.column_names else []  # only what was listed just now has any
        table = rows.select(names).to_pylist()
        read = functools.partial(self._read, others=[row["uri"] for row in table])
        items = ((row, row["num_bytes"]) for row in table)
        return read_within(read, items, room_bytes=self.room_bytes, size_of=_size_of)

    def _read(self, row: dict[str, Any], room_bytes: int | None, others: Sequence[str]) -> bytes | ImageError:
        if (row["num_bytes"] or 0) > self.limits.max_bytes:  # not even fetched
            return describe_too_large(row["num_bytes"], self.limits)
        reader = _process_reader(self.root, self.storage, self.limits)
        return reader.read(row["uri"], others, room_bytes=room_bytes, num_bytes=row["num_bytes"], etag=row.get("etag"))

    def _read_packed(self, rows: pa.Table, column: str) -> Iterator[bytes | ImageError]:
        for uri, group in itertools.groupby(rows.select(["uri", "source_row"]).to_pylist(), itemgetter("uri")):
            places = [row["source_row"] for row in group]
            yield from ImageColumn(uri=uri, name=column, storage=self.storage).read(places, self.limits)


def _size_of(found: bytes | ImageError) -> int:
    return len(found) if isinstance(found, bytes) else 0


def _with_images(rows: pa.Table, found: Sequence[bytes | ImageError]) -> pa.Table:
    """The rows with what was found of them; one table at a time, since Arrow copies the bytes."""
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
    """The table with further columns."""
    for name, values in columns.items():
        table = table.append_column(name, values)
    return table
