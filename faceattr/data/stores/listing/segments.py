"""Lists a range of keys in several streams at once; the entries come in the keys' order all the same.

A store gives a listing page by page, and each page names the last key of the one before: one stream of pages takes
hours for 100,000,000 keys. A listing may start after any key, though. So the range is cut into segments that are listed
side by side: the first one alone, and from its keys, guesses for the next ones (`cut_keys`). A segment that turns out
to be larger than planned is cut again where it stopped.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import pairwise

from faceattr.data.stores.listing.cut_keys import guess_cuts
from faceattr.data.stores.store import ObjectInfo
from faceattr.errors import StorageError

# Pages of a segment: its entries wait in memory until those before them are read.
_SEGMENT_PAGES = 8
# Segments that are listed, or listed and wait, for each stream.
_HELD_PER_STREAM = 2


@dataclass(frozen=True, kw_only=True)
class Page:
    """One answer of a store.

    Attributes:
        entries: objects in the order of their keys' bytes, which Python's order of text is too; folder markers as well.
        token: gives the next page; None if no key follows.
    """

    entries: Sequence[ObjectInfo]
    token: str | None


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What a segment's pages gave: its entries, the key to go on after if there may be more, and a key behind it."""

    entries: list[ObjectInfo]
    rest: str | None = None
    behind: str | None = None


@dataclass
class _Segment:
    """The keys after `start`, up to and with `end`; None: to the last one."""

    start: str
    end: str | None
    found: "Future[_Found] | None" = None

    @property
    def is_done(self) -> bool:
        """Whether its pages are there, or an error in their place."""
        return self.found is not None and self.found.done()


# The first page after a key, or the page of a token.
Fetch = Callable[[str, str | None], Page]


def list_in_segments(fetch: Fetch, *, streams: int) -> Iterator[ObjectInfo]:
    """Yields all objects, ascending by key.

    Args:
        fetch: see `Fetch`; called from several threads.
        streams: pages that are fetched at the same time.

    Raises:
        StorageError: the store's order is not that of the keys' bytes, so that segments would miss some.
    """
    segments = [_Segment("", None)]
    pool = ThreadPoolExecutor(streams, thread_name_prefix="list")
    try:
        while segments:
            for segment in _choose_next(segments, streams):
                segment.found = pool.submit(_list_segment, fetch, segment.start, segment.end)
            started = [segment.found for segment in segments if segment.found is not None]
            if not segments[0].is_done:
                wait([each for each in started if not each.done()], return_when=FIRST_COMPLETED)
            segments = list(_cut_again(segments, pieces=streams))
            while segments and segments[0].is_done:
                found = segments.pop(0).found
                assert found is not None
                yield from found.result().entries
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _choose_next(segments: Sequence[_Segment], streams: int) -> list[_Segment]:
    """Returns the segments to start: the first ones, but the last one as soon as the streams could run dry.

    The last one holds all that is not cut yet, and only its own keys say how.
    """
    new = [segment for segment in segments if segment.found is None]
    if 1 < len(new) <= streams + 1:
        new = [new[0], new[-1], *new[1:-1]]
    room = _HELD_PER_STREAM * streams - (len(segments) - len(new))
    return new[: max(room, int(segments[0].found is None))]


def _cut_again(segments: Iterable[_Segment], *, pieces: int) -> Iterator[_Segment]:
    """Yields the segments, with the rest of those that were larger than planned as new ones behind them.

    A segment that a page has shown to be empty is left out: the next key is behind it.
    """
    behind = ""
    for segment in segments:
        if segment.found is None and segment.end is not None and segment.end < behind:
            continue
        yield segment
        if not segment.is_done or segment.found is None or segment.found.exception() is not None:
            continue
        found = segment.found.result()
        behind = found.behind or behind
        if found.rest is None or segment.end == found.rest:
            continue
        keys = [entry.key for entry in found.entries]
        edges = [found.rest, *guess_cuts(keys, end=segment.end, pieces=pieces), segment.end]
        segment.end = found.rest
        yield from (_Segment(start, end) for start, end in pairwise(edges) if start is not None)


def _list_segment(fetch: Fetch, start: str, end: str | None) -> _Found:
    entries: list[ObjectInfo] = []
    last, token, num_pages = start, None, 0
    # A page of a bucket with many deleted versions may be empty: a segment goes on until it has a key to be cut at.
    while num_pages < _SEGMENT_PAGES or not entries:
        page = fetch(start, token)
        for entry in page.entries:
            if entry.key <= last:
                raise StorageError(
                    f"the store lists {entry.key!r} after {last!r}, which is not the order of their bytes: several "
                    "streams would miss keys. Use --storage.list-streams 1"
                )
            if end is not None and entry.key > end:
                return _Found(entries=entries, behind=entry.key)
            entries.append(entry)
            last = entry.key
        token, num_pages = page.token, num_pages + 1
        if token is None:
            return _Found(entries=entries)
    return _Found(entries=entries, rest=last)
