"""The interface of every store, and what stores speak of: objects, the absence of one, and the refusal of one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from faceattr.errors import StorageError


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectInfo:
    """One listed object.

    Attributes:
        key: relative to the store's root, with `/`.
        num_bytes: size.
        etag: changes when the content does; None where the store has none.
        modified_s: last modification by the store's clock, Unix seconds.
    """

    key: str
    num_bytes: int
    etag: str | None
    modified_s: float


class MissingObjectError(Exception):
    """There is no object under this key: proven by the store's own answer, never concluded from silence."""


class LargeObjectError(Exception):
    """The object has more bytes than the reader wants; they were not fetched.

    Attributes:
        num_bytes: size of the object.
    """

    def __init__(self, key: str, *, num_bytes: int, max_bytes: int) -> None:
        super().__init__(f"{key} has {num_bytes:,} bytes, more than {max_bytes:,}")
        self.num_bytes = num_bytes


class RefusedObjectError(StorageError):
    """The store answered, and refused to give this object; asking again will not change that.

    A StorageError, since a run cannot go on without its own files. Where an image is read, `ObjectReader` decides
    whether the refusal is a fact about the image.

    Attributes:
        detail: the store's own words.
        is_certain: whether the answer can only be about this object (it is archived, its name is too long). Otherwise
            it may as well be the answer to every read, since rights can be lost.
    """

    def __init__(self, message: str, *, detail: str = "", is_certain: bool = False) -> None:
        super().__init__(message)
        self.detail = detail
        self.is_certain = is_certain


class Store(Protocol):
    """A rooted key-value store of whole objects. All methods raise StorageError on outage or refusal."""

    uri: str

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Objects whose key starts with `prefix`, recursively, streaming, in no promised order; no folder markers."""
        ...

    def get(self, key: str, *, max_bytes: int | None = None, listed: ObjectInfo | None = None) -> bytes:
        """The whole object.

        Args:
            key: of the object.
            max_bytes: what the reader has room for; a larger object is not fetched.
            listed: what a listing said of it; a body of another size is not taken while the object is the same.

        Raises:
            MissingObjectError: there is none.
            RefusedObjectError: it is kept back.
            LargeObjectError: it has more than `max_bytes`.
        """
        ...

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Writes a new object. Returns False, writing nothing, if the key exists (perhaps by our own lost answer)."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Writes or replaces an object, atomically for readers. For files that one writer owns."""
        ...

    def delete(self, key: str) -> None:
        """Removes an object; no error if there is none."""
        ...
