"""The interface of all stores, and their terms: objects, a missing object, a refused object."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from faceattr.errors import ConfigError, StorageError


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectInfo:
    """One listed object.

    Attributes:
        key: key relative to the store's root, with `/`.
        num_bytes: size in bytes.
        etag: changes when the content does; None if the store has none.
        modified_s: last modification by the store's clock, Unix seconds.
    """

    key: str
    num_bytes: int
    etag: str | None
    modified_s: float


class MissingObjectError(Exception):
    """There is no object with this key: stated by the store's own answer, never inferred from a missing answer."""


class LargeObjectError(Exception):
    """The object has more bytes than the reader accepts; they were not fetched.

    Attributes:
        num_bytes: size of the object in bytes.
    """

    def __init__(self, key: str, *, num_bytes: int, max_bytes: int) -> None:
        super().__init__(f"{key} has {num_bytes:,} bytes, more than {max_bytes:,}")
        self.num_bytes = num_bytes


class RefusedObjectError(StorageError):
    """The store answered, and refused to return this object; a retry will not change that.

    A StorageError, since a run cannot continue without its own files. For an image, `ObjectReader` decides whether the
    refusal is a fact about the image.

    Attributes:
        detail: the store's own message.
        is_certain: whether the answer can only concern this object (it is archived, its name is too long). Otherwise
            every read might get the same answer, since permissions can be lost.
    """

    def __init__(self, message: str, *, detail: str = "", is_certain: bool = False) -> None:
        super().__init__(message)
        self.detail = detail
        self.is_certain = is_certain


class Store(Protocol):
    """A rooted key-value store of whole objects. All methods raise StorageError on an outage or refusal."""

    uri: str

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yields objects whose key starts with `prefix`, recursively, in any order, without folder markers."""
        ...

    def get(self, key: str, *, max_bytes: int | None = None, listed: ObjectInfo | None = None) -> bytes:
        """Returns the whole object.

        Args:
            key: key of the object.
            max_bytes: largest size that is fetched; None for no limit.
            listed: the object's entry in a listing; a body of another size is not accepted if the etag is unchanged.

        Raises:
            MissingObjectError: there is no such object.
            RefusedObjectError: the store refuses it.
            LargeObjectError: it has more than `max_bytes`.
        """
        ...

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Writes a new object. Returns False without writing if the key exists (perhaps from our own lost answer)."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Writes or replaces an object, atomically for readers. For files with a single writer."""
        ...

    def delete(self, key: str) -> None:
        """Deletes an object; no error if there is none."""
        ...


class ReadOnlyStore:
    """The writing methods of a store that is only read: it has no conditional write, so rows could be written twice."""

    uri: str

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Refused with a ConfigError."""
        raise self._refusal()

    def put(self, key: str, data: bytes) -> None:
        """Refused with a ConfigError."""
        raise self._refusal()

    def delete(self, key: str) -> None:
        """Refused with a ConfigError."""
        raise self._refusal()

    def _refusal(self) -> ConfigError:
        return ConfigError(
            f"{self.uri!r}: runs can be written to local folders and s3:// only; images may be read here"
        )


def has_object(store: Store, key: str) -> bool:
    """Whether an object with this key is listed."""
    return any(entry.key == key for entry in store.list(key))
