"""Images in a column of Parquet or Arrow files, read in file order, a few at a time.

A row group may contain all images of a file, so reading it whole, let alone once per thread, would take as much memory
as all images. Instead, its pages are streamed once for all rows that are requested together. Small row groups are kept
for a while, since a reader that requests rows in random order returns to them.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from faceattr.config import ImageLimitsConfig, StorageConfig
from faceattr.data.images.decode import describe_too_large
from faceattr.data.inputs.saved_dataset import is_arrow, read_arrow_batches
from faceattr.data.stores.ranged import open_ranged
from faceattr.errors import ImageError, RunError, StorageError

# Bytes of a column fetched at a time, and bytes of images decoded from it at a time.
_FETCH_BYTES = 4 * 2**20
_BATCH_BYTES = 8 * 2**20
_MOST_BATCH_ROWS = 1_024
# Row groups up to this size are read whole; the last few of them are kept.
_KEPT_BYTES = 16 * 2**20
_NUM_KEPT = 2


@dataclass(frozen=True, kw_only=True)
class RowGroup:
    """A row group of a Parquet file, or a batch of an Arrow file.

    Attributes:
        number: its index in the file.
        first_row: its first row in the file.
        num_rows: its number of rows.
    """

    number: int
    first_row: int
    num_rows: int


@functools.lru_cache(maxsize=64)
def read_row_groups(uri: str, storage: StorageConfig) -> tuple[RowGroup, ...]:
    """Reads the row groups of a file from its footer; of an Arrow file, its batches.

    Raises:
        RunError: the file is no longer a Parquet file.
        ConfigError: it is no longer a complete Arrow file.
        StorageError: it cannot be read.
    """
    if is_arrow(uri):
        sizes = [len(batch) for batch in read_arrow_batches(uri)]
    else:
        with _errors(uri), open_ranged(uri, storage) as source:
            metadata = pq.read_metadata(source)
        sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    starts = np.cumsum([0, *sizes]).tolist()
    return tuple(
        RowGroup(number=number, first_row=start, num_rows=size)
        for number, (start, size) in enumerate(zip(starts, sizes, strict=False))
    )


@dataclass(frozen=True, kw_only=True)
class ImageColumn:
    """A column of encoded images in a Parquet or Arrow file.

    Attributes:
        uri: URI of the file.
        name: name of the column: binary, or Hugging Face's {bytes, path}.
        storage: how the file is reached.
        batch_bytes: approximate bytes of images that are taken from a row group at a time.
        kept_bytes: size of the largest row group that is read whole.
    """

    uri: str
    name: str
    storage: StorageConfig
    batch_bytes: int = _BATCH_BYTES
    kept_bytes: int = _KEPT_BYTES

    def read(self, rows: Sequence[int], limits: ImageLimitsConfig) -> Iterator[bytes | ImageError]:
        """Yields the images of some rows of the file, in order.

        Args:
            rows: row numbers in the file, ascending.
            limits: bounds of an encoded image.

        Raises:
            RunError: the file is damaged.
            StorageError: it cannot be read.
        """
        wanted = np.asarray(rows, np.int64)
        if is_arrow(self.uri):
            yield from self._read_arrow(wanted, limits)
            return
        for group in read_row_groups(self.uri, self.storage):
            start, stop = np.searchsorted(wanted, [group.first_row, group.first_row + group.num_rows]).tolist()
            if start == stop:
                continue
            places = wanted[start:stop] - group.first_row
            num_bytes = _count_bytes(self, group.number)
            found: Iterator[pa.Scalar]
            if num_bytes <= self.kept_bytes:
                values = _read_group(self, group.number)
                found = (values[place] for place in places.tolist())
            else:
                batch_rows = min(_MOST_BATCH_ROWS, max(1, self.batch_bytes * group.num_rows // num_bytes))
                found = self._stream(group.number, places, batch_rows)
            yield from (_to_image(value, limits) for value in found)

    def _read_arrow(self, wanted: np.ndarray, limits: ImageLimitsConfig) -> Iterator[bytes | ImageError]:
        first = done = 0
        for batch in read_arrow_batches(self.uri, [self.name]):  # mapped: only the wanted images are read
            stop = int(np.searchsorted(wanted, first + len(batch)))
            values = _bytes_of(batch.column(0))
            yield from (_to_image(values[place - first], limits) for place in wanted[done:stop].tolist())
            first, done = first + len(batch), stop
            if done == len(wanted):
                return

    def _stream(self, group: int, places: np.ndarray, batch_rows: int) -> Iterator[pa.Scalar]:
        first = done = 0
        # Pages are fetched when they are reached: not the whole column of the row group, and none after the last row.
        with _errors(self.uri), open_ranged(self.uri, self.storage) as source:
            file = pq.ParquetFile(source, buffer_size=_FETCH_BYTES, pre_buffer=False)
            for batch in file.iter_batches(batch_rows, row_groups=[group], columns=[self.name], use_threads=False):
                values = _bytes_of(batch.column(0))
                stop = int(np.searchsorted(places, first + len(values)))
                yield from (values[place - first] for place in places[done:stop].tolist())
                first, done = first + len(values), stop
                if done == len(places):
                    return


@functools.lru_cache(maxsize=_NUM_KEPT)
def _read_group(column: ImageColumn, group: int) -> pa.ChunkedArray:
    with _errors(column.uri), open_ranged(column.uri, column.storage) as source:
        return _bytes_of(pq.ParquetFile(source).read_row_group(group, columns=[column.name])[column.name])


@functools.lru_cache(maxsize=1_024)
def _count_bytes(column: ImageColumn, group: int) -> int:
    """Returns the uncompressed size of a column in a row group, in bytes."""
    with _errors(column.uri), open_ranged(column.uri, column.storage) as source:
        found = pq.read_metadata(source).row_group(group)
    leaves = (found.column(number) for number in range(found.num_columns))
    prefix = f"{column.name}."
    return sum(leaf.total_uncompressed_size for leaf in leaves if f"{leaf.path_in_schema}.".startswith(prefix))


def _bytes_of(values: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    return pc.struct_field(values, "bytes") if pa.types.is_struct(values.type) else values


def _to_image(value: pa.Scalar, limits: ImageLimitsConfig) -> bytes | ImageError:
    if not value.is_valid:
        return ImageError("missing", "the row holds no image")
    buffer = value.as_buffer()
    return describe_too_large(buffer.size, limits) if buffer.size > limits.max_bytes else buffer.to_pybytes()


class _errors:  # noqa: N801 - reads as a statement
    """Turns pyarrow's errors about a file into errors that name it."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, pa.ArrowInvalid | pa.ArrowKeyError):
            raise RunError(f"{self._uri} is damaged: {error}") from error
        if isinstance(error, OSError):
            raise StorageError(f"cannot read {self._uri}: {error}") from error
