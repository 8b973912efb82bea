"""Small real stores for tests: one in memory that forbids what a run must never do, and ones that fail on purpose."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from faceattr.data.stores.store import LargeObjectError, MissingObjectError, ObjectInfo

# Only these may ever be replaced or removed once they are visible.
MUTABLE_PREFIXES = ("_lease/", "_probe-", "sessions/", "report")


class SimulatedCrash(BaseException):
    """The process dies here. No handler of the code under test may see it as an error of its own."""


class MemoryStore:
    """A store in memory. Replacing or removing anything published fails the test at once."""

    def __init__(self) -> None:
        self.uri = "memory"
        self.objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        with self._lock:
            found = [key for key in self.objects if key.startswith(prefix)]
        # Neither sorted nor in order of creation: a listing promises nothing.
        for key in sorted(found, key=lambda key: hashlib.md5(key.encode()).hexdigest()):
            data = self.objects.get(key)
            if data is not None:
                yield ObjectInfo(key=key, num_bytes=len(data), etag=str(hash(data)), modified_s=0.0)

    def get(self, key: str, *, max_bytes: int | None = None) -> bytes:
        try:
            data = self.objects[key]
        except KeyError:
            raise MissingObjectError(key) from None
        if max_bytes is not None and len(data) > max_bytes:
            raise LargeObjectError(key, num_bytes=len(data), max_bytes=max_bytes)
        return data

    def put_if_absent(self, key: str, data: bytes) -> bool:
        with self._lock:
            if key in self.objects:
                return False
            self.objects[key] = data
            return True

    def put(self, key: str, data: bytes) -> None:
        with self._lock:
            replaced = self.objects.get(key)
            assert replaced in (None, data) or key.startswith(MUTABLE_PREFIXES), f"{key} was replaced"
            self.objects[key] = data

    def delete(self, key: str) -> None:
        with self._lock:
            orphan = key.startswith("plan/") and key.encode() not in self.objects.get("run.json", key.encode())
            assert orphan or key.startswith(MUTABLE_PREFIXES), f"{key} was deleted"
            self.objects.pop(key, None)


class HookedStore:
    """Calls a hook before and after every operation of another store; the hook may raise."""

    def __init__(self, inner: Any, hook: Callable[[str, str, str], None]) -> None:
        self.uri = inner.uri
        self._inner = inner
        self._hook = hook

    def _call(self, name: str, key: str, *args: Any, **options: Any) -> Any:
        self._hook("before", name, key)
        result = getattr(self._inner, name)(key, *args, **options)
        self._hook("after", name, key)
        return result

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self._hook("before", "list", prefix)
        yield from self._inner.list(prefix)

    def get(self, key: str, *, max_bytes: int | None = None) -> bytes:
        return self._call("get", key, max_bytes=max_bytes)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return self._call("put_if_absent", key, data)

    def put(self, key: str, data: bytes) -> None:
        self._call("put", key, data)

    def delete(self, key: str) -> None:
        self._call("delete", key)


class LossyStore(HookedStore):
    """Some writes succeed and their acknowledgement is lost: the client's retry then finds the object there."""

    def __init__(self, inner: Any, loses: Callable[[], bool]) -> None:
        super().__init__(inner, lambda when, name, key: None)
        self._loses = loses

    def put_if_absent(self, key: str, data: bytes) -> bool:
        created = self._inner.put_if_absent(key, data)
        return False if created and self._loses() and not key.startswith("_probe-") else created
