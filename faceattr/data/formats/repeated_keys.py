"""Finds repeated keys among any number of keys, in constant memory.

64-bit hashes beyond a few million are spilled to buckets on local disk and compared bucket by bucket. Equal hashes are
only candidates: at 10^8 keys one pair in about 4,000 runs collides by chance, so the caller compares the keys.
"""

import hashlib
import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa

_BUCKETS = range(64)


class RepeatedKeys:
    """Collects keys; `hashes` then returns those that occurred more than once. A context manager: it may own files.

    Args:
        max_in_memory: hashes that are kept in memory before they are spilled, 8 bytes each.
    """

    def __init__(self, max_in_memory: int = 2_000_000) -> None:
        self._max_in_memory = max_in_memory
        self._held: list[np.ndarray] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @staticmethod
    def hash(key: str) -> int:
        """Returns the 64-bit hash of a key."""
        return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")

    def add(self, keys: pa.ChunkedArray) -> None:
        """Adds a column of strings."""
        self._held.append(np.fromiter((self.hash(key) for key in keys.to_pylist()), np.uint64, len(keys)))
        if sum(map(len, self._held)) > self._max_in_memory:
            self._spill()

    def hashes(self) -> frozenset[int]:
        """Returns the hashes that were added more than once."""
        if self._folder is None:
            return _repeated(np.concatenate([np.empty(0, np.uint64), *self._held]))
        self._spill()
        return frozenset().union(*(_repeated(np.fromfile(path, np.uint64)) for path in map(self._bucket, _BUCKETS)))

    def _spill(self) -> None:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="faceattr-keys-")
        hashes = np.concatenate([np.empty(0, np.uint64), *self._held])
        self._held.clear()
        order = np.argsort(hashes % len(_BUCKETS), kind="stable")
        ends = np.searchsorted(hashes[order] % len(_BUCKETS), np.arange(len(_BUCKETS) + 1))
        for bucket in _BUCKETS:
            with self._bucket(bucket).open("ab") as file:
                file.write(hashes[order[ends[bucket] : ends[bucket + 1]]].tobytes())

    def _bucket(self, bucket: int) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / f"{bucket:02d}"

    def __enter__(self) -> "RepeatedKeys":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder is not None:
            self._folder.cleanup()


def _repeated(hashes: np.ndarray) -> frozenset[int]:
    values, counts = np.unique(hashes, return_counts=True)
    return frozenset(values[counts > 1].tolist())
