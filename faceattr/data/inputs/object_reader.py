"""Reads images from a store: the bytes, or a reason that is proven to concern only this image.

A store that refuses an object ("AccessDenied", EACCES) may refuse only this one or all: permissions can be lost in the
middle of a run. Only the first case is a rejected image. So after a refusal another object (the witness) is read, and
then the refused one again: the image is `unreadable` only if the store returns others and still refuses this one. If
it returns none, the run stops with the store's message, and its rows stay pending.
"""

import functools
from collections.abc import Iterator, Sequence
from itertools import chain

from faceattr.config import ImageLimitsConfig
from faceattr.data.images.decode import describe_too_large
from faceattr.data.stores.store import LargeObjectError, MissingObjectError, ObjectInfo, RefusedObjectError, Store
from faceattr.data.stores.web.hosts import is_web, parse_web
from faceattr.errors import ConfigError, ImageError, StorageError

# Candidates for the witness: given keys, and listed keys at growing distances up to the 127,000th object.
_MOST_OTHERS = 32
_MOST_LISTED = 64
_STRIDE = 1.2
# A witness is read again for every refusal, so a small object is preferred.
_SMALL_BYTES = 2**20
_LARGE_BYTES = 64 * 2**20


class ObjectReader:
    """Reads the images of one store; thread-safe.

    Args:
        store: the store that contains them.
        limits: bounds of an encoded image; a larger object is not fetched. None: no limits.
    """

    def __init__(self, store: Store, limits: ImageLimitsConfig | None = None) -> None:
        self.store = store
        self._limits = limits
        self._witness: str | None = None

    def read(
        self,
        uri: str,
        others: Sequence[str] = (),
        *,
        room_bytes: int | None = None,
        num_bytes: int | None = None,
        etag: str | None = None,
    ) -> bytes | ImageError:
        """Returns the bytes of an image, or why it cannot be used.

        Args:
            uri: URI of the image, below the store's own.
            others: URIs of other images of the store, some of which can probably be read.
            room_bytes: memory available at the moment, in bytes.
            num_bytes: size in the listing, if the image was listed; a body of another size is not accepted while the
                ETag equals the listing's.
            etag: ETag in the listing.

        Raises:
            LargeObjectError: the image is within the limits but larger than `room_bytes`; it was not fetched.
            StorageError: an outage, or the store refuses other objects too; then nothing is known about the image.
        """
        key = self._key(uri)
        listed = None
        if num_bytes is not None and etag is not None:
            listed = ObjectInfo(key=key, num_bytes=num_bytes, etag=etag, modified_s=0.0)
        try:
            data = self._get(key, room_bytes, listed)
        except MissingObjectError:
            return ImageError("missing", "there is no such object")
        except RefusedObjectError as refusal:
            return self._judge(key, others, refusal, room_bytes, listed)
        if isinstance(data, ImageError):
            return data
        if self._witness is None or len(data) <= _SMALL_BYTES:
            self._witness = key
        return data

    def _get(self, key: str, room_bytes: int | None, listed: ObjectInfo | None = None) -> bytes | ImageError:
        """Returns the object, or the error of one that is too large."""
        get = self.store.get if listed is None else functools.partial(self.store.get, listed=listed)
        if self._limits is None:
            return get(key) if room_bytes is None else get(key, max_bytes=room_bytes)
        max_bytes = self._limits.max_bytes
        try:
            return get(key, max_bytes=max_bytes if room_bytes is None else min(max_bytes, room_bytes))
        except LargeObjectError as error:
            if error.num_bytes <= max_bytes:
                raise
            return describe_too_large(error.num_bytes, self._limits)

    def _key(self, uri: str) -> str:
        return uri[len(self.store.uri.rstrip("/")) + 1 :]

    def _judge(
        self,
        key: str,
        others: Sequence[str],
        refusal: RefusedObjectError,
        room_bytes: int | None,
        listed: ObjectInfo | None,
    ) -> bytes | ImageError:
        if refusal.is_certain:
            return ImageError("unreadable", refusal.detail)
        self._read_another(key, others, refusal)
        try:
            return self._get(key, room_bytes, listed)
        except MissingObjectError:
            return ImageError("missing", "there is no such object")
        except RefusedObjectError as again:
            return ImageError("unreadable", again.detail)

    def _read_another(self, key: str, others: Sequence[str], refusal: RefusedObjectError) -> None:
        num_tried = 0
        for candidate in chain([self._witness], map(self._key, _spread(others)), self._listed_keys()):
            if candidate in (None, key):
                continue
            try:
                self._get(str(candidate), None if self._limits is None else _SMALL_BYTES)
            except LargeObjectError:
                pass  # a store that tells an object's size would also return it
            except MissingObjectError:
                continue
            except RefusedObjectError:
                num_tried += 1
                continue
            self._witness = candidate
            return
        raise StorageError(
            f"{refusal} ({refusal.detail}). None of {num_tried} other objects below {self.store.uri} could be read "
            "either, so no image is rejected because of it"
        ) from refusal

    def _listed_keys(self) -> Iterator[str]:
        """Yields keys of the listing at growing distances, and its last one, to get past a large refused folder."""
        wanted, num_yielded, last = 0, 0, ""
        try:
            for number, entry in enumerate(self.store.list()):
                if entry.num_bytes > _LARGE_BYTES:
                    continue
                last = entry.key
                if number < wanted:
                    continue
                yield entry.key
                wanted = max(wanted + 1, int(_STRIDE * wanted))
                num_yielded += 1
                if num_yielded == _MOST_LISTED:
                    return
        except (ConfigError, StorageError):
            return  # it needs another permission, or is unknown to the store; the refusal is the error that matters
        if last:
            yield last


def root_of(uri: str, root: str) -> str | None:
    """Returns the root of the store that contains an image.

    Args:
        uri: address of the image.
        root: where the images of its run are.

    Returns:
        `root`, or for an image of the web elsewhere its server; None for any other address.
    """
    if uri.startswith(f"{root.rstrip('/')}/"):
        return root
    return parse_web(uri).root if is_web(uri) else None


def _spread(uris: Sequence[str]) -> Sequence[str]:
    return uris[:: -(-len(uris) // _MOST_OTHERS) or 1]
