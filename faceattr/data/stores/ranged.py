"""Ranged reads of Parquet, text and tar files: the footer and single row groups or members instead of whole objects.

S3 is read through the client used for everything else (`faceattr.data.stores.s3`), not through pyarrow's own client:
that one resolves endpoint, region, profile and addressing style differently, so the two would use different stores.
"""

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.fs

from faceattr.config import StorageConfig
from faceattr.data.stores.addresses import resolve_address
from faceattr.data.stores.arrow import open_filesystem
from faceattr.data.stores.keys import join_uri, split_uri
from faceattr.data.stores.open import open_store
from faceattr.data.stores.s3 import S3Store
from faceattr.data.stores.store import MissingObjectError
from faceattr.errors import StorageError

# The usual size of a Parquet file's footer; small files are fetched whole with it.
_TAIL_BYTES = 64 * 2**10
# What is fetched ahead when a file is read from its start, and the part of a larger read that one connection fetches.
_AHEAD_BYTES = 4 * 2**20
_PART_BYTES = 8 * 2**20
_CONNECTIONS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRange:
    """Some bytes of a file, from `read_range`.

    Attributes:
        data: the bytes.
        etag: of the file as it is now, as listings have it; None where the answer has none.
    """

    data: bytes
    etag: str | None


def read_range(uri: str, start: int, num_bytes: int, storage: StorageConfig) -> FileRange:
    """Returns some bytes of a file with one request; fewer at its end.

    Args:
        uri: address of the file.
        start: first byte.
        num_bytes: number of bytes; 1 or more.
        storage: how it is reached.

    Raises:
        StorageError: there is no such file, an outage or a refusal.
    """
    try:
        if uri.startswith("s3://"):
            root, key = split_uri(uri)
            store = open_store(root, storage)
            assert isinstance(store, S3Store)
            found = store.get_range(key, start, num_bytes)
            return FileRange(data=found.data, etag=found.etag.strip('"'))
        with open_ranged(uri, storage) as file:
            file.seek(min(start, file.size()))
            return FileRange(data=file.read(num_bytes), etag=None)
    except (MissingObjectError, FileNotFoundError) as error:
        raise StorageError(f"cannot read {uri}: there is no such file") from error
    except OSError as error:
        raise StorageError(f"cannot read {uri}: {error}") from error


def open_ranged(uri: str, storage: StorageConfig) -> pa.NativeFile:
    """Opens a seekable file that fetches only the requested bytes.

    Raises:
        FileNotFoundError: there is no such object.
        ConfigError: the URI contains credentials, or the store's settings cannot be used.
        StorageError: an outage or a refusal; also while the file is read.
    """
    uri = resolve_address(uri, "a file's URI")
    if uri.startswith("s3://"):
        root, key = split_uri(uri)
        store = open_store(root, storage)
        assert isinstance(store, S3Store)
        return pa.PythonFile(_S3File(store, key), mode="r")
    if "://" in uri:
        filesystem, path = open_filesystem(uri)
    else:
        filesystem, path = pyarrow.fs.LocalFileSystem(), uri
    return filesystem.open_input_file(path)


class _S3File(io.RawIOBase):
    """An object as a seekable file. pyarrow serialises its calls."""

    def __init__(self, store: S3Store, key: str) -> None:
        super().__init__()
        self._store = store
        self._key = key
        try:
            tail = store.get_range(key, -_TAIL_BYTES, 0)
        except MissingObjectError as error:
            raise FileNotFoundError(join_uri(store.uri, key)) from error
        self._size, self._etag = tail.size, tail.etag
        self._place = 0
        self._tail = tail.data
        self._ahead, self._ahead_start = b"", 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def size(self) -> int:
        return self._size

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self._place)
        wanted = left if size is None or size < 0 else min(size, left)
        data = self._take(self._place, wanted) if wanted else b""
        self._place += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _take(self, start: int, num_bytes: int) -> bytes:
        for held, first in ((self._tail, self._size - len(self._tail)), (self._ahead, self._ahead_start)):
            if first <= start and start + num_bytes <= first + len(held):
                return held[start - first : start - first + num_bytes]
        if start == self._ahead_start + len(self._ahead) and num_bytes < _AHEAD_BYTES:  # continues the previous read
            self._ahead = self._fetch(start, min(_AHEAD_BYTES, self._size - start))
            self._ahead_start = start
            return self._ahead[:num_bytes]
        if self._ahead_start < start < self._ahead_start + len(self._ahead):
            head = self._ahead[start - self._ahead_start :]
            return head + self._take(start + len(head), num_bytes - len(head))
        return self._fetch(start, num_bytes)

    def _fetch(self, start: int, num_bytes: int) -> bytes:
        end = start + num_bytes
        starts = range(start, end, _PART_BYTES)
        if len(starts) == 1:
            return self._fetch_part(start, end)
        with ThreadPoolExecutor(min(_CONNECTIONS, len(starts)), thread_name_prefix="ranges") as threads:
            return b"".join(threads.map(lambda first: self._fetch_part(first, min(first + _PART_BYTES, end)), starts))

    def _fetch_part(self, start: int, end: int) -> bytes:
        try:
            found = self._store.get_range(self._key, start, end - start)
        except MissingObjectError as error:
            raise FileNotFoundError(f"{join_uri(self._store.uri, self._key)} was deleted while it was read") from error
        if (found.size, found.etag) != (self._size, self._etag):
            raise StorageError(f"{join_uri(self._store.uri, self._key)} was replaced while it was read; start again")
        if len(found.data) != end - start:
            raise StorageError(f"{join_uri(self._store.uri, self._key)}: got {len(found.data)} of {end - start} bytes")
        return found.data
