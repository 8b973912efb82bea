"""The first stages of every image stream: list the rows to do, read the images.

Each is a small picklable object that maps Arrow tables; a row that fails carries its reason on, and no row is dropped.
Ray runs them as tasks and shows them under their class names. No torch here: a process that reads starts at once.
"""

import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from faceattr.data.bounded_reads import read_within
from faceattr.data.commit import OK
from faceattr.data.images import ImageLimits, describe_too_large
from faceattr.data.object_reader import ObjectReader
from faceattr.data.plan import Plan, read_shards
from faceattr.data.ranged import open_ranged
from faceattr.data.runs import Work
from faceattr.data.storage import StorageOptions, Store, open_store
from faceattr.errors import ImageError, StorageError

# Of encoded images that are being read or wait for their turn, and in a table that is passed on. A process that reads
# holds both a few times: as bytes, in the table, and in the object store on the way to the next stage.
_ROOM_BYTES = 64 * 2**20
_TABLE_BYTES = 32 * 2**20


@functools.lru_cache(maxsize=16)
def process_store(uri: str, options: StorageOptions) -> Store:
    """One client a process: connections are reused over the blocks that a worker handles."""
    return open_store(uri, options)


@functools.lru_cache(maxsize=16)
def _process_reader(uri: str, options: StorageOptions, limits: ImageLimits) -> ObjectReader:
    """One reader a process: it remembers an object that could be read."""
    return ObjectReader(process_store(uri, options), limits)


@dataclass(frozen=True)
class ListRows:
    """Numbers of plan parts -> the plan rows in them that are still to be done."""

    run_uri: str
    storage: StorageOptions
    work: Work

    def __call__(self, parts: pa.Table) -> pa.Table:
        """Rows of the parts whose indices stand in the column `part`."""
        store = process_store(self.run_uri, self.storage)
        plan: Plan = self.work.plan
        return pa.concat_tables(
            self.work.rows_to_do(store, read_shards(store, plan, plan.parts[index], self.work.pending))
            for index in parts["part"].to_pylist()
        )


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
    storage: StorageOptions
    limits: ImageLimits
    bytes_column: str | None = None
    table_bytes: int = _TABLE_BYTES
    room_bytes: int = _ROOM_BYTES

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        """Reads a block of rows with a few threads; all of them, in order. Raises StorageError on an outage."""
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
        table = rows.select(["uri", "image_id", "num_bytes", "source_row"]).to_pylist()
        read = functools.partial(self._read, others=[row["uri"] for row in table])
        items = ((row, row["num_bytes"]) for row in table)
        return read_within(read, items, room_bytes=self.room_bytes, size_of=_size_of)

    def _read(self, row: dict[str, Any], room_bytes: int | None, others: Sequence[str]) -> bytes | ImageError:
        if (row["num_bytes"] or 0) > self.limits.max_bytes:  # not even fetched
            return describe_too_large(row["num_bytes"], self.limits)
        if self.bytes_column is not None:
            return self._read_packed(row["uri"], row["source_row"])
        reader = _process_reader(self.root, self.storage, self.limits)
        return reader.read(row["uri"], others, room_bytes=room_bytes)

    def _read_packed(self, uri: str, source_row: int) -> bytes | ImageError:
        try:
            group, start = _find_row_group(uri, source_row, self.storage)
            value = _read_row_group(uri, group, str(self.bytes_column), self.storage)[source_row - start].as_py()
        except OSError as error:
            raise StorageError(f"cannot read {uri}: {error}") from error
        if isinstance(value, dict):  # the {bytes, path} struct of Hugging Face
            value = value["bytes"]
        return value if value is not None else ImageError("missing", "the row holds no image")


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


def _find_row_group(uri: str, row: int, storage: StorageOptions) -> tuple[int, int]:
    ends = _row_group_ends(uri, storage)
    group = int(np.searchsorted(ends, row, side="right"))
    return group, int(ends[group - 1]) if group else 0


@functools.lru_cache(maxsize=64)
def _row_group_ends(uri: str, storage: StorageOptions) -> np.ndarray:
    with open_ranged(uri, storage) as file:
        metadata = pq.read_metadata(file)
    return np.cumsum([metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)])


@functools.lru_cache(maxsize=2)
def _read_row_group(uri: str, group: int, column: str, storage: StorageOptions) -> pa.ChunkedArray:
    with open_ranged(uri, storage) as file:
        return pq.ParquetFile(file).read_row_group(group, columns=[column])[column]


def append_columns(table: pa.Table, **columns: pa.Array) -> pa.Table:
    """The table with further columns."""
    for name, values in columns.items():
        table = table.append_column(name, values)
    return table
