"""Many reads at a time, bounded in bytes: the order stays, and what is held follows from the sizes."""

import threading

import pytest

from faceattr.data.stores.bounded_reads import read_objects, read_within
from faceattr.data.stores.store import LargeObjectError
from faceattr.errors import StorageError

KIB = 2**10


class Shelf:
    """Objects that are nothing but sizes; knows how many bytes are given out and not yet taken."""

    def __init__(self, sizes):
        self.sizes = sizes
        self.lock = threading.Lock()
        self.held = self.most_held = 0
        self.asked = []

    def read(self, number, room_bytes):
        size = self.sizes[number]
        with self.lock:
            self.asked.append(number)
            if room_bytes is not None and size > room_bytes:
                raise LargeObjectError(str(number), num_bytes=size, max_bytes=room_bytes)
            self.held += size
            self.most_held = max(self.most_held, self.held)
        return number, size

    def take(self, *, known, room_bytes):
        items = [(number, size if known else None) for number, size in enumerate(self.sizes)]
        taken = []
        for number, size in read_within(self.read, items, room_bytes=room_bytes, size_of=lambda found: found[1]):
            taken.append(number)
            with self.lock:
                self.held -= size
        return taken


@pytest.mark.parametrize("known", [True, False])
def test_results_come_in_order_and_never_take_more_than_the_room(known):
    sizes = [(number * 7919 % 6_000) * KIB for number in range(200)]
    shelf = Shelf(sizes)
    assert shelf.take(known=known, room_bytes=24_000 * KIB) == list(range(200))
    assert shelf.most_held <= 24_000 * KIB


def test_small_objects_are_read_many_at_a_time_although_nobody_knows_their_size():
    shelf = Shelf([10 * KIB] * 400)
    shelf.take(known=False, room_bytes=64_000 * KIB)
    assert shelf.most_held >= 8 * 10 * KIB
    assert len(shelf.asked) == 400


def test_objects_of_one_size_that_nobody_knows_are_asked_for_once():
    shelf = Shelf([6_000 * KIB] * 60)
    shelf.take(known=False, room_bytes=64_000 * KIB)
    assert len(shelf.asked) == 60


def test_an_object_that_is_larger_than_the_room_is_read_when_its_turn_comes():
    shelf = Shelf([KIB] * 20 + [90_000 * KIB] + [KIB] * 20)
    assert shelf.take(known=False, room_bytes=16_000 * KIB) == list(range(41))
    assert sorted(shelf.asked) == sorted([*range(41), 20])


def test_a_failed_read_ends_the_rest():
    asked = []

    def read(number, room_bytes):
        asked.append(number)
        raise StorageError("an outage")

    with pytest.raises(StorageError, match="an outage"):
        list(read_within(read, ((number, 1) for number in range(1_000)), room_bytes=KIB, size_of=len))
    assert len(asked) < 100


def test_files_of_a_run_are_read_ahead_as_far_as_their_sizes_allow():
    lock, held, most = threading.Lock(), [0], [0]

    def get(key):
        with lock:
            held[0] += 1
            most[0] = max(most[0], held[0])
        return key.encode()

    keys = [f"{number:03}" for number in range(40)]
    for key, data in zip(
        keys, read_objects(get, ((key, 64 * 2**20) for key in keys), room_bytes=128 * 2**20), strict=True
    ):
        assert data == key.encode()
        with lock:
            held[0] -= 1
    assert most[0] == 2
