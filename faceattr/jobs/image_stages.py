"""The stages in front of every model: list the rows to do, read the images, decode them.

Each is a small picklable object that maps Arrow tables; a row that fails carries its reason on, and no row is dropped.
Ray runs them as tasks and shows them under their class names.
"""

import functools
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from faceattr.data.commit import OK
from faceattr.data.decoder import process_decoder
from faceattr.data.images import ImageLimits
from faceattr.data.plan import Plan, read_shards
from faceattr.data.ranged import open_ranged
from faceattr.data.runs import Work
from faceattr.data.storage import StorageOptions, Store, open_store
from faceattr.data.store_types import MissingObjectError
from faceattr.errors import ImageError, StorageError
from faceattr.vqa.preprocess import resize_rgb

_READ_THREADS = 16
_DECODE_IMAGES = 32
_DECODE_BYTES = 2 * 2**20


@functools.lru_cache(maxsize=16)
def process_store(uri: str, options: StorageOptions) -> Store:
    """One client a process: connections are reused over the blocks that a worker handles."""
    return open_store(uri, options)


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

    Only the store's own word makes an image `missing`; an outage raises and leaves the rows undone.
    """

    root: str
    storage: StorageOptions
    limits: ImageLimits
    bytes_column: str | None = None

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Reads a block of rows with a few threads. Raises StorageError on an outage."""
        table = rows.select(["uri", "image_id", "num_bytes", "source_row"]).to_pylist()
        with ThreadPoolExecutor(_READ_THREADS) as pool:
            read = list(pool.map(self._read, table))
        data = [value if isinstance(value, bytes) else None for value in read]
        errors = [value if isinstance(value, ImageError) else None for value in read]
        return _append(
            rows,
            data=pa.array(data, pa.large_binary()),
            sha256=pa.array([hashlib.sha256(value).hexdigest() if value is not None else None for value in data]),
            status=pa.array([error.reason if error else OK for error in errors]),
            error=pa.array([error.detail if error else None for error in errors], pa.string()),
        )

    def _read(self, row: dict[str, Any]) -> bytes | ImageError:
        if (row["num_bytes"] or 0) > self.limits.max_bytes:  # not even fetched
            return ImageError("too_large", f"{row['num_bytes']} bytes, at most {self.limits.max_bytes} are read")
        if self.bytes_column is not None:
            return self._read_packed(row["uri"], row["source_row"])
        store = process_store(self.root, self.storage)
        try:
            return store.get(row["uri"][len(store.uri.rstrip("/")) + 1 :])
        except MissingObjectError:
            return ImageError("missing", "there is no such object")

    def _read_packed(self, uri: str, source_row: int) -> bytes | ImageError:
        try:
            group, start = _find_row_group(uri, source_row, self.storage)
            value = _read_row_group(uri, group, str(self.bytes_column), self.storage)[source_row - start].as_py()
        except OSError as error:
            raise StorageError(f"cannot read {uri}: {error}") from error
        if isinstance(value, dict):  # the {bytes, path} struct of Hugging Face
            value = value["bytes"]
        return value if value is not None else ImageError("missing", "the row holds no image")


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


@dataclass(frozen=True)
class DecodeImages:
    """Rows with `data` -> rows with `pixels`: uint8 RGB [size_px, size_px, 3] as fixed-size binary, zeros for bad rows.

    Decoding happens in a disposable child process; resizing is the model's own.
    """

    limits: ImageLimits
    timeout_s: float
    size_px: int

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Decodes and resizes a block of rows."""
        torch.set_num_threads(1)  # a task owns one core, whatever the worker process did before
        decoder = process_decoder(self.limits, deadline_s=self.timeout_s)
        status, error = rows["status"].to_pylist(), rows["error"].to_pylist()
        sizes: list[tuple[int | None, int | None]] = [(None, None)] * len(rows)
        pixels = np.zeros((len(rows), self.size_px, self.size_px, 3), np.uint8)
        readable = [place for place, value in enumerate(status) if value == OK]
        for places, encoded in _decode_batches(readable, rows["data"]):
            for place, decoded in zip(places, decoder.decode_batch(encoded), strict=True):
                if isinstance(decoded, ImageError):
                    status[place], error[place] = decoded.reason, decoded.detail
                    continue
                sizes[place] = decoded.shape[1], decoded.shape[0]
                pixels[place] = resize_rgb(decoded, self.size_px)
        kept = rows.drop_columns(["data", "status", "error"])
        return _append(
            kept,
            width_px=pa.array([width for width, _ in sizes], pa.int32()),
            height_px=pa.array([height for _, height in sizes], pa.int32()),
            status=pa.array(status),
            error=pa.array(error, pa.string()),
            pixels=pixels_to_arrow(pixels),
        )


def _decode_batches(places: list[int], data: pa.ChunkedArray) -> Iterator[tuple[list[int], list[bytes]]]:
    """Places and encoded images, a few at a time: their decoded pixels are in memory together."""
    batch: tuple[list[int], list[bytes]] = ([], [])
    num_bytes = 0
    for place in places:
        image = data[place].as_py()
        if batch[0] and (len(batch[0]) == _DECODE_IMAGES or num_bytes + len(image) > _DECODE_BYTES):
            yield batch
            batch, num_bytes = ([], []), 0
        batch[0].append(place)
        batch[1].append(image)
        num_bytes += len(image)
    if batch[0]:
        yield batch


def pixels_to_arrow(pixels: np.ndarray) -> pa.Array:
    """uint8 [n, size, size, 3] as a fixed-size binary array, without a copy."""
    width = int(np.prod(pixels.shape[1:]))
    return pa.Array.from_buffers(pa.binary(width), len(pixels), [None, pa.py_buffer(np.ascontiguousarray(pixels))])


def pixels_from_arrow(column: pa.ChunkedArray, size_px: int) -> np.ndarray:
    """Inverse of pixels_to_arrow; read-only where the column is one chunk."""
    views = []
    for chunk in column.chunks:
        width = chunk.type.byte_width
        values = np.frombuffer(chunk.buffers()[1], np.uint8, len(chunk) * width, chunk.offset * width)
        views.append(values.reshape(len(chunk), size_px, size_px, 3))
    if not views:
        return np.zeros((0, size_px, size_px, 3), np.uint8)
    return views[0] if len(views) == 1 else np.concatenate(views)


def _append(table: pa.Table, **columns: pa.Array) -> pa.Table:
    for name, values in columns.items():
        table = table.append_column(name, values)
    return table
