"""Shuffles any number of rows by section: spilled to buckets on local disk, then sorted bucket by bucket.

    key(row) = blake2b(seed, sha256 of the image, or image_id if there is none)

Rows are returned in the order of their keys, so the order depends only on the data and the seed, and byte-identical
images are adjacent. Memory contains the rows on their way to disk, and one bucket of `NUM_BUCKETS`.
"""

import hashlib
from collections.abc import Iterator
from types import TracebackType

import numpy as np
import pyarrow as pa

from faceattr.data.formats.spilled_tables import SpilledTables

NUM_BUCKETS = 64
_SPILL_ROWS = 65_536
_KEY = "shuffle_key"


class ShuffledRows:
    """Collects rows by section and returns each section in shuffled order. A context manager: it owns files.

    Args:
        schema: schema of the rows, with image_id and sha256.
        seed: another seed gives another order.
    """

    def __init__(self, schema: pa.Schema, seed: int) -> None:
        self._schema = schema
        self._seed = seed
        self._spilled = SpilledTables(schema.append(pa.field(_KEY, pa.uint64())), "faceattr-shuffle-")
        self._pending: dict[str, list[pa.Table]] = {}

    def add(self, section: str, table: pa.Table) -> None:
        """Adds rows to one section."""
        keyed = table.append_column(_KEY, self._keys(table))
        pending = self._pending.setdefault(section, [])
        pending.append(keyed)
        if sum(map(len, pending)) >= _SPILL_ROWS:
            self._spill(section)

    def _keys(self, table: pa.Table) -> pa.Array:
        ids = zip(table["sha256"].to_pylist(), table["image_id"].to_pylist(), strict=True)
        # The prefix separates a content from an image whose name equals its hash.
        names = (f"content\0{sha256}" if sha256 else f"image\0{image_id}" for sha256, image_id in ids)
        keys = (f"{self._seed}\0{name}".encode() for name in names)
        hashes = (int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") for key in keys)
        return pa.array(np.fromiter(hashes, np.uint64, len(table)))

    def _spill(self, section: str) -> None:
        table = pa.concat_tables(self._pending.pop(section))
        buckets = table[_KEY].to_numpy() // np.uint64(2**64 // NUM_BUCKETS)
        for bucket in np.unique(buckets).tolist():
            self._spilled.append(f"{section}-{bucket:02d}", table.filter(pa.array(buckets == bucket)))

    def buckets(self, section: str) -> Iterator[pa.Table]:
        """Yields the tables of a section in its final order. Afterwards nothing can be added to that section."""
        if section in self._pending:
            self._spill(section)
        for bucket in range(NUM_BUCKETS):
            table = self._spilled.read(f"{section}-{bucket:02d}")
            if len(table):
                # Equal keys are copies: their order must not depend on the source's order either.
                yield table.sort_by([(_KEY, "ascending"), ("image_id", "ascending")]).select(self._schema.names)

    def __enter__(self) -> "ShuffledRows":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spilled.__exit__(kind, error, trace)
