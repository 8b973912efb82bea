"""Concurrent reads of many objects within a memory limit: the sizes decide how many reads are in flight.

Memory contains the results that wait for their turn and the results in flight. An object of known size reserves that
size. An object of unknown size is expected to be no larger than those before it; if it is larger, reading stops, and
the object is read when its turn comes.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from faceattr.data.stores.store import LargeObjectError

_T = TypeVar("_T")
_R = TypeVar("_R")

_THREADS = 16
# Small objects are read ahead of the object whose turn it is.
_MOST_WAITING = 4 * _THREADS
# An object may grow between listing and reading, and tiny objects use next to no memory.
_LEAST_CLAIM = 256 * 2**10
_MEMORY_OF_SIZES = 0.75
# Memory for files of a run that are read ahead.
_OBJECTS_BYTES = 128 * 2**20


def read_within(
    read: Callable[[_T, int | None], _R],
    items: Iterable[tuple[_T, int | None]],
    *,
    room_bytes: int,
    size_of: Callable[[_R], int],
) -> Iterator[_R]:
    """Yields results in the order of the items; threads read them.

    Args:
        read: (item, memory limit in bytes) -> result. Raises LargeObjectError if the result is larger; it is then
            called once more, without a limit.
        items: items with their sizes in bytes, or None if unknown.
        room_bytes: memory limit of all results; a single result may be larger.
        size_of: returns the bytes of a result.
    """
    pool = ThreadPoolExecutor(_THREADS)
    waiting: deque[tuple[_T, Future[_R], int]] = deque()
    expected = room_bytes / 4  # as long as no size is known, a few at a time
    rest = iter(items)
    upcoming = next(rest, None)
    claimed = 0
    try:
        while upcoming is not None or waiting:
            while upcoming is not None and len(waiting) < _MOST_WAITING:
                item, size = upcoming
                claim = max(_LEAST_CLAIM, int(expected) if size is None else size)
                if waiting and claimed + claim > room_bytes:
                    break
                waiting.append((item, pool.submit(read, item, claim), claim))
                claimed += claim
                upcoming = next(rest, None)
            item, future, claim = waiting.popleft()
            try:
                result = future.result()
            except LargeObjectError:
                result = read(item, None)
            claimed -= claim
            typical = 2 * size_of(result)
            expected = max(typical, _MEMORY_OF_SIZES * expected + (1 - _MEMORY_OF_SIZES) * typical)
            yield result
    finally:
        pool.shutdown(cancel_futures=True)


def read_objects(
    get: Callable[[str], bytes], keys: Iterable[tuple[str, int]], *, room_bytes: int = _OBJECTS_BYTES
) -> Iterator[bytes]:
    """Yields objects of known sizes in the order of their keys; see `read_within`."""
    return read_within(lambda key, _: get(key), keys, room_bytes=room_bytes, size_of=len)
