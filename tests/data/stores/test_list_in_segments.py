"""A listing in several streams: every key once and in order, whatever they are called, and few requests more."""

import threading
from bisect import bisect_right

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceattr.data.stores.listing.cut_keys import guess_cuts
from faceattr.data.stores.listing.segments import Page, list_in_segments
from faceattr.data.stores.store import ObjectInfo
from faceattr.errors import StorageError


class Bucket:
    """Keys in the order of their bytes, given in pages; tokens are positions."""

    def __init__(self, keys, *, page=10):
        self.keys = sorted(keys, key=str.encode)
        self.page, self.requests, self.lock = page, 0, threading.Lock()

    def fetch(self, after, token):
        with self.lock:
            self.requests += 1
        start = int(token) if token is not None else bisect_right(self.keys, after)
        end = start + self.page
        entries = [ObjectInfo(key=key, num_bytes=1, etag=None, modified_s=0.0) for key in self.keys[start:end]]
        return Page(entries=entries, token=str(end) if end < len(self.keys) else None)

    def list(self, streams):
        return [entry.key for entry in list_in_segments(self.fetch, streams=streams)]


@settings(max_examples=150, deadline=None)
@given(
    keys=st.sets(st.text("ab01/-~\u00e9\U0001f600", min_size=1, max_size=7), max_size=300),
    page=st.integers(1, 7),
    streams=st.integers(2, 6),
)
def test_every_key_comes_once_and_in_order(keys, page, streams):
    bucket = Bucket(keys, page=page)
    assert bucket.list(streams) == bucket.keys


@pytest.mark.parametrize(
    "keys",
    [
        [f"faces/img_{number:08d}.jpg" for number in range(20_000)],
        [f"{number * 2_654_435_761 % 2**32:08x}.jpg" for number in range(20_000)],  # as hashes
        [f"n{folder:04d}/{number:05d}.png" for folder in range(40) for number in range(500)],
        [f"{2_000 + number // 4_000}/{number % 12 + 1:02d}/cam-{number % 7}/{number}.jpg" for number in range(20_000)],
    ],
    ids=["numbers", "hashes", "folders", "dates"],
)
def test_requests_are_few_more_than_pages(keys):
    bucket = Bucket(keys, page=20)
    assert bucket.list(16) == bucket.keys
    assert bucket.requests <= 1.6 * (len(keys) / 20)


def test_pages_are_fetched_side_by_side():
    bucket = Bucket([f"{number:06d}" for number in range(4_000)])
    together, tickets = threading.Barrier(4), iter(range(4))

    def fetch(after, token):
        # The first four requests after the sequential start come here together, or the barrier breaks.
        if after and next(tickets, None) is not None:
            together.wait(timeout=30)
        return bucket.fetch(after, token)

    assert [entry.key for entry in list_in_segments(fetch, streams=4)] == bucket.keys
    assert next(tickets, None) is None


def test_memory_holds_a_few_segments_of_any_number():
    bucket = Bucket([f"{number:06d}" for number in range(50_000)])
    listing = list_in_segments(bucket.fetch, streams=4)
    next(listing)
    # Eight pages of the first segment, and of two more for each of four streams.
    assert bucket.requests <= 8 * (1 + 2 * 4)


def test_an_order_that_is_not_of_bytes_is_refused():
    bucket = Bucket([f"{number:04d}" for number in range(100)])
    bucket.keys[70:70] = ["0000-late"]
    with pytest.raises(StorageError, match=r"'0000-late' after '0069'.*list-streams 1"):
        bucket.list(4)


def test_an_empty_page_is_not_the_end():
    bucket = Bucket(["a", "b"])

    def fetch(after, token):  # four pages of deleted versions come first
        number = int(token or 0)
        return Page(entries=[], token=str(number + 1)) if number < 5 else bucket.fetch("", None)

    assert [entry.key for entry in list_in_segments(fetch, streams=4)] == ["a", "b"]


def test_cuts_are_almost_as_far_apart_as_the_listed_keys():
    listed = [f"img_{number:06d}.jpg" for number in range(1_000)]
    # From 000000 to 000999 are 999 steps, of which seven eighths are 874.
    assert guess_cuts(listed, end=None, pieces=3) == ["img_001873.jpg", "img_002747.jpg", "img_003621.jpg"]
    assert guess_cuts(listed, end="img_003000.jpg", pieces=3) == ["img_001873.jpg", "img_002747.jpg"]
    # Hexadecimal digits count to f: from 00 to 10 are sixteen, seven eighths fourteen.
    assert guess_cuts([f"{number:02x}" for number in range(17)], end=None, pieces=2) == ["1e", "2c"]
    assert guess_cuts(["only"], end=None, pieces=3) == []
