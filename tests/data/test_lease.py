"""One driver at a time: who may start, who must wait, who has to stop."""

import json
import os
import subprocess
import sys
import time

import pytest

from faceattr.data.runs.lease import acquire_lease, hold_lease, is_alive, process_identity
from faceattr.data.stores.local import LocalStore
from faceattr.errors import RunError, StorageError
from tests.fakes.stores import HookedStore, LossyStore, MemoryStore

HOLD = """
import sys
from pathlib import Path
from faceattr.data.runs.lease import acquire_lease
from faceattr.data.stores.open import LocalStore
acquire_lease(LocalStore(Path(sys.argv[1])))
print("held", flush=True)
sys.stdin.read()
"""


def never_sleep(seconds):
    raise AssertionError("waited for a process of this machine")


def unseen(owner):
    """The owner runs on another machine."""


def states(store):
    return {entry.key: json.loads(store.get(entry.key)) for entry in store.list("_lease/")}


def test_a_second_driver_is_refused_while_the_first_lives():
    store = MemoryStore()
    acquire_lease(store)
    with pytest.raises(RunError, match=f"another driver works on this run: process {os.getpid()} on "):
        acquire_lease(store, sleep=never_sleep)
    assert list(states(store)) == ["_lease/00000001.json"]


def test_after_a_release_the_next_starts_at_once_under_the_next_number():
    store = MemoryStore()
    for number in range(1, 4):
        acquire_lease(store, is_alive=unseen, sleep=never_sleep).release()
        assert list(states(store)) == [f"_lease/{number:08d}.json"]


def test_a_killed_driver_of_this_machine_is_succeeded_at_once(tmp_path):
    store = LocalStore(tmp_path)
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=f"process {holder.pid} on "):
            acquire_lease(store, sleep=never_sleep)
        holder.kill()
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet reaped
        acquire_lease(store, sleep=never_sleep).release()
    acquire_lease(store, sleep=never_sleep)
    assert list(states(store)) == ["_lease/00000003.json"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"started": "1"}, False),  # the number was given to another process since
        ({"pid": 2**22 + 1}, False),  # above what Linux gives
        ({"machine": "another boot/pid:[1]"}, None),
    ],
)
def test_whether_an_owner_lives(change, expected):
    assert is_alive(process_identity() | change) is expected


@pytest.mark.parametrize("beats_at", [1, 5, 10])
def test_a_driver_elsewhere_that_shows_a_sign_of_life_is_left_alone(beats_at):
    store = MemoryStore()
    first = acquire_lease(store)
    naps = []

    def nap(seconds):
        naps.append(seconds)
        if len(naps) == beats_at:
            first.beat()

    with pytest.raises(RunError, match="another driver works on this run"):
        acquire_lease(store, is_alive=unseen, ttl_s=30.0, sleep=nap)
    assert len(naps) == beats_at
    first.beat()


def test_a_driver_elsewhere_that_shows_none_is_succeeded_after_the_ttl():
    store = MemoryStore()
    overtaken = acquire_lease(store)
    naps = []
    second = acquire_lease(store, is_alive=unseen, ttl_s=30.0, sleep=naps.append)
    assert sum(naps) == pytest.approx(30.0)
    second.beat()
    before = states(store)
    with pytest.raises(RunError, match="another driver has taken over this run"):
        overtaken.beat()
    assert states(store) == before
    second.beat()


def test_a_driver_elsewhere_that_ends_while_it_is_watched_is_succeeded_at_once():
    store = MemoryStore()
    first = acquire_lease(store)
    naps = []

    def nap(seconds):
        naps.append(seconds)
        first.release()

    acquire_lease(store, is_alive=unseen, sleep=nap)
    assert len(naps) == 1


def test_of_two_that_start_together_one_is_refused():
    store = MemoryStore()
    winners = []

    def interfere(when, name, key):
        if (when, name) == ("before", "put_if_absent") and not winners:
            winners.append(acquire_lease(store))

    with pytest.raises(RunError, match="another driver has just started"):
        acquire_lease(HookedStore(store, interfere))
    winners[0].beat()
    assert list(states(store)) == ["_lease/00000001.json"]


def test_the_late_release_of_an_overtaken_driver_changes_nothing():
    store = MemoryStore()
    overtaken = acquire_lease(store)
    acquire_lease(store, is_alive=unseen, sleep=lambda seconds: None)
    overtaken.release()
    with pytest.raises(RunError, match="another driver works"):
        acquire_lease(store, sleep=never_sleep)


@pytest.mark.parametrize("fails", [False, True])
def test_a_held_lease_is_released_at_the_end(fails):
    store = MemoryStore()
    lost = []

    def hold():
        with hold_lease(store, on_lost=lost.append):
            assert [state["released"] for state in states(store).values()] == [False]
            if fails:
                raise ZeroDivisionError

    if fails:
        with pytest.raises(ZeroDivisionError):
            hold()
    else:
        hold()
    assert [state["released"] for state in states(store).values()] == [True]
    assert lost == []


def test_a_lost_acknowledgement_of_our_own_lease_is_recognised():
    store = MemoryStore()
    lease = acquire_lease(LossyStore(store, lambda: True))
    lease.beat()
    assert list(states(store)) == ["_lease/00000001.json"]
    with pytest.raises(RunError, match="another driver works on this run"):
        acquire_lease(store, sleep=never_sleep)


def test_a_store_that_does_not_answer_is_no_lost_lease(monkeypatch):
    monkeypatch.setattr("faceattr.data.runs.lease.BEAT_INTERVAL_S", 0.01)
    store, lost, failed = MemoryStore(), [], []

    def hook(when, name, key):
        if name == "put" and when == "before" and len(failed) < 3:
            failed.append(key)
            raise StorageError("no answer")

    with hold_lease(HookedStore(store, hook), on_lost=lost.append):
        give_up_at = time.monotonic() + 10
        while states(store)["_lease/00000001.json"]["beats"] < 5 and time.monotonic() < give_up_at:
            time.sleep(0.01)
    assert (lost, len(failed)) == ([], 3)
