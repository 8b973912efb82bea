"""Which rows a version of a run has, where they are not simply all rows of the plan in run.json.

    plan        the plan of run.json, with further parts and sections at its end
    removed     row numbers that the table leaves out
    withheld    salted hashes of the image ids that no later version may take in again

A row number is given once: an image that has changed gets a new row at the end, and its old row is left out.
"""

import hashlib
import secrets
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from faceattr.data.formats.integrity import REMEDY, check_whole, hash_bytes
from faceattr.data.formats.json_files import damage_named, decode_fields, decode_versioned, encode_versioned
from faceattr.data.formats.parquet import decode_table, encode_table
from faceattr.data.runs.plan import Plan
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.store import MissingObjectError, Store
from faceattr.errors import RunError

_SALT_BYTES = 16
_HASH_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class HashedFile:
    """A file that a version relies on.

    Attributes:
        key: key in the run folder.
        sha256: of the whole file.
        count: how many rows, or ids, it lists.
    """

    key: str
    sha256: str
    count: int


@dataclass(frozen=True, kw_only=True)
class Extent:
    """The rows of a version.

    Attributes:
        plan: all rows that were ever planned.
        removed: Parquet file with the column `row`: the rows that are left out; None if none is.
        withheld: JSON file with a salt and the hashes of image ids; None if no row was ever deleted on request.
    """

    plan: Plan
    removed: HashedFile | None = None
    withheld: HashedFile | None = None

    @property
    def files(self) -> tuple[HashedFile, ...]:
        """The files of the extent, without the plan's parts."""
        return tuple(each for each in (self.removed, self.withheld) if each is not None)

    def to_json(self) -> dict[str, Any]:
        """Returns the plain form; a file that is not there has no key."""
        files = {"removed": self.removed, "withheld": self.withheld}
        return {
            "plan": self.plan.to_json(),
            **{name: asdict(each) for name, each in files.items() if each is not None},
        }

    @classmethod
    def from_json(cls, value: dict[str, Any], where: str) -> "Extent":
        """Inverse of to_json. Raises RunError, naming `where`, if the value is damaged."""
        extent = decode_fields(cls, value, where)
        files = {
            name: decode_fields(HashedFile, value[name], where) for name in ("removed", "withheld") if name in value
        }
        with damage_named(where):
            return replace(extent, plan=Plan.from_json(value["plan"]), **files)


class RemovedRows:
    """Row numbers that a table leaves out.

    Args:
        rows: int64 [n], in any order.
    """

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = np.unique(rows.astype(np.int64))

    def __len__(self) -> int:
        return len(self.rows)

    def live(self, rows: range) -> np.ndarray:
        """Returns the rows of a range that the table has, int64 [n], ascending."""
        first, end = np.searchsorted(self.rows, [rows.start, rows.stop])
        return np.setdiff1d(np.arange(rows.start, rows.stop), self.rows[first:end], assume_unique=True)

    def live_mask(self, rows: np.ndarray) -> np.ndarray:
        """Returns which of these rows the table has, bool [n]."""
        return ~np.isin(rows, self.rows)


class WithheldIds:
    """Image ids that no later version may take in again, as salted hashes: a list that does not say which they are.

    Args:
        salt: random bytes of the run.
        hashes: keyed BLAKE2b hashes of 128 bits, in hexadecimal.
    """

    def __init__(self, salt: bytes, hashes: Iterable[str]) -> None:
        self._salt = salt
        self.hashes = frozenset(hashes)

    @classmethod
    def empty(cls) -> "WithheldIds":
        """Returns a list without ids, with a new salt."""
        return cls(secrets.token_bytes(_SALT_BYTES), ())

    def __len__(self) -> int:
        return len(self.hashes)

    def __contains__(self, image_id: str) -> bool:
        return bool(self.hashes) and self._hash(image_id) in self.hashes

    def mask(self, ids: pa.ChunkedArray) -> np.ndarray:
        """Returns which of these ids are withheld, bool [n]."""
        if not self.hashes:
            return np.zeros(len(ids), bool)
        return np.fromiter((each in self for each in ids.to_pylist()), bool, len(ids))

    def add(self, ids: Iterable[str]) -> "WithheldIds":
        """Returns the list with further ids."""
        return WithheldIds(self._salt, self.hashes | {self._hash(each) for each in ids})

    def _hash(self, image_id: str) -> str:
        return hashlib.blake2b(image_id.encode(), key=self._salt, digest_size=_HASH_BYTES).hexdigest()

    def encode(self) -> bytes:
        """Returns the bytes of the file."""
        return encode_versioned({"salt": self._salt.hex(), "hashes": sorted(self.hashes)})

    @classmethod
    def decode(cls, data: bytes, where: str) -> "WithheldIds":
        """Inverse of encode. Raises RunError if the file is damaged."""
        value = decode_versioned(data, where)
        with damage_named(where):
            return cls(bytes.fromhex(value["salt"]), value["hashes"])


def read_removed(store: Store, extent: Extent | None) -> RemovedRows:
    """Reads the rows that a version leaves out; none without an extent. Raises RunError if the file is damaged."""
    if extent is None or extent.removed is None:
        return RemovedRows(np.empty(0, np.int64))
    where = join_uri(store.uri, extent.removed.key)
    return RemovedRows(decode_table(_read(store, extent.removed), where)["row"].to_numpy())


def read_withheld(store: Store, extent: Extent | None) -> WithheldIds:
    """Reads the withheld ids; an empty list with a new salt if there are none. Raises RunError if it is damaged."""
    if extent is None or extent.withheld is None:
        return WithheldIds.empty()
    return WithheldIds.decode(_read(store, extent.withheld), join_uri(store.uri, extent.withheld.key))


def write_removed(store: Store, removed: RemovedRows) -> HashedFile | None:
    """Writes the rows that are left out under a new name; None if there are none."""
    if not len(removed):
        return None
    data = encode_table(pa.table({"row": pa.array(removed.rows, pa.int64())}))
    return _write(store, "removed", ".parquet", data, len(removed))


def write_withheld(store: Store, withheld: WithheldIds) -> HashedFile:
    """Writes the withheld ids under a new name."""
    return _write(store, "withheld", ".json", withheld.encode(), len(withheld))


def _write(store: Store, name: str, ending: str, data: bytes, count: int) -> HashedFile:
    # A random word, as in the names of the plan's parts: what a failed attempt wrote is named by nothing.
    key = f"plan/{name}-{uuid.uuid4().hex[:8]}{ending}"
    store.put(key, data)
    return HashedFile(key=key, sha256=hash_bytes(data), count=count)


def _read(store: Store, file: HashedFile) -> bytes:
    where = join_uri(store.uri, file.key)
    try:
        data = store.get(file.key)
    except MissingObjectError as error:
        raise RunError(f"{where} is gone, which the run's manifest names; {REMEDY}") from error
    check_whole(data, where, num_bytes=None, sha256=file.sha256)
    return data
