"""One driver at a time on one run folder.

The lease prevents two drivers from doing the same work twice; correctness does not depend on it (shards are put
conditionally), so it can be simple. Holders are numbered: `_lease/00000003.json` is created by `put_if_absent`, the
highest number holds the lease, and each file is written only by its owner, which rewrites it as a heartbeat. A holder
that sees a higher number stops.

Whether the last holder is alive: on the same machine its process is looked up, so a run can resume at once after
kill -9; elsewhere its file is watched for `LEASE_TTL_S`. Only this machine's clock is used to wait.
"""

import _thread
import contextlib
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from faceattr.data.formats.json_files import damage_named, decode_versioned, encode_versioned
from faceattr.data.runs.version import read_record
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.local import LocalStore
from faceattr.data.stores.patience import write_on_the_way_out
from faceattr.data.stores.store import MissingObjectError, Store
from faceattr.errors import FaceattrError, RunError, StorageError

logger = logging.getLogger(__name__)
BEAT_INTERVAL_S = 8.0
LEASE_TTL_S = 30.0
LEASE_FOLDER = "_lease/"


def process_identity() -> dict[str, Any]:
    """Returns what identifies this process, and whether another process can look it up."""
    return {
        "host": socket.gethostname(),
        # Two containers may share a kernel; process ids are comparable only within one namespace of one boot.
        "machine": f"{_read('/proc/sys/kernel/random/boot_id')}/{os.readlink('/proc/self/ns/pid')}",
        "pid": os.getpid(),
        "started": _start_time(os.getpid()),
    }


def is_alive(owner: dict[str, Any]) -> bool | None:
    """Whether the owner's process is alive, or None if it runs where this process cannot see it."""
    if owner["machine"] != process_identity()["machine"]:
        return None
    return _start_time(owner["pid"]) == owner["started"]


def _read(path: str) -> str:
    return Path(path).read_text().strip()


def _start_time(pid: int) -> str | None:
    """Returns the start of a process in clock ticks since boot, which distinguishes reused process ids."""
    try:
        fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else fields[19]


class Lease:
    """The right to drive a run, from `acquire_lease`."""

    def __init__(self, store: Store, number: int, owner: dict[str, Any]) -> None:
        self._store = store
        self._number = number
        self._owner = owner
        self._beats = 0

    def beat(self) -> None:
        """Writes a heartbeat. Raises RunError if another driver has taken over."""
        if max(_numbers(self._store), default=0) > self._number:
            raise RunError("another driver has taken over this run; this one stops. What is committed stays.")
        self._beats += 1
        self._store.put(_key(self._number), _encode(self._owner, beats=self._beats))

    def release(self, why: str | None = None) -> None:
        """Lets the next driver start at once; `why` is the reason that stopped this one before its end.

        The file stays: its number must not be used again.
        """
        self._store.put(_key(self._number), _encode(self._owner, beats=self._beats, released=True, why=why))


def acquire_lease(
    store: Store,
    *,
    is_alive: Callable[[dict[str, Any]], bool | None] = is_alive,
    ttl_s: float = LEASE_TTL_S,
    sleep: Callable[[float], None] = time.sleep,
) -> Lease:
    """Takes the lease of a run folder.

    Args:
        store: the run folder.
        is_alive: returns whether a holder's process is alive, or None if that cannot be seen from here.
        ttl_s: seconds for which such a holder is watched for a heartbeat.
        sleep: waits.

    Raises:
        RunError: another driver is alive.
    """
    numbers = _numbers(store)
    number = max(numbers, default=0)
    state = _state(store, number) if number else None
    if state and _lives(store, number, state, is_alive=is_alive, ttl_s=ttl_s, sleep=sleep):
        owner = state["owner"]
        raise RunError(
            f"another driver works on this run: process {owner['pid']} on {owner['host']}. Wait for it, or stop it."
        )
    # The token distinguishes our own file, if its acknowledgement was lost, from that of a concurrent driver.
    owner = process_identity() | {"token": uuid.uuid4().hex}
    if not store.put_if_absent(_key(number + 1), _encode(owner, beats=0)):
        there = _state(store, number + 1)
        if there is None or there["owner"].get("token") != owner["token"]:
            raise RunError("another driver has just started on this run; wait for it, or stop it first.")
    for older in numbers:
        store.delete(_key(older))
    return Lease(store, number + 1, owner)


def find_driver(
    store: Store,
    *,
    is_alive: Callable[[dict[str, Any]], bool | None] = is_alive,
    ttl_s: float = LEASE_TTL_S,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any] | None:
    """Returns the owner (host, pid) of the driver that works on a run, or None. Does not take the lease.

    A driver on another machine is watched for a heartbeat, for at most `ttl_s` seconds.
    """
    number = max(_numbers(store), default=0)
    state = _state(store, number) if number else None
    if state is None or not _lives(store, number, state, is_alive=is_alive, ttl_s=ttl_s, sleep=sleep):
        return None
    return dict(state["owner"])


def find_stop_reason(store: Store) -> str | None:
    """Returns why the last driver stopped before its end; None if it did not, or could not tell (kill -9)."""
    number = max(_numbers(store), default=0)
    state = _state(store, number) if number else None
    return state.get("why") if state else None


@contextlib.contextmanager
def hold_lease(store: Store, *, on_lost: Callable[[FaceattrError], None]) -> Iterator[Lease]:
    """Holds the lease during the block, with heartbeats from a thread; it calls `on_lost` if another driver takes over.

    A store that does not answer is no loss of the lease: reading and writing the run's own data reports it.

    A FaceattrError, or a stop by the user, that ends the block is recorded in the lease.
    """
    lease = acquire_lease(store)
    done = threading.Event()

    def keep() -> None:
        while not done.wait(BEAT_INTERVAL_S):
            try:
                lease.beat()
            except StorageError as error:
                logger.warning("lease no heartbeat written, will retry: %s", error)
            except FaceattrError as error:
                on_lost(error)
                return

    thread = threading.Thread(target=keep, name="lease", daemon=True)
    thread.start()
    why: str | None = None
    try:
        yield lease
    except FaceattrError as error:
        why = str(error)
        raise
    except KeyboardInterrupt:
        why = "stopped by the user"
        raise
    finally:
        done.set()
        write_on_the_way_out(lambda: _end(thread, lease, why), "the end of the lease")


@contextlib.contextmanager
def drive(store: Store, *, drafts: Sequence[str] = ()) -> Iterator[None]:
    """Holds the lease of a run folder during the block; if the lease is lost, the block is interrupted.

    If a new folder gets no run because the block fails, its lease and its drafts are removed.

    Args:
        store: the run folder.
        drafts: prefixes of the keys that the block may write before it begins the run.

    Raises:
        RunError: another driver is active, or has taken over.
    """
    lost: list[FaceattrError] = []

    def interrupt(error: FaceattrError) -> None:
        lost.append(error)
        _thread.interrupt_main()

    try:
        with hold_lease(store, on_lost=interrupt):
            yield
    except KeyboardInterrupt:
        if lost:
            raise lost[0] from None
        raise
    except FaceattrError as error:
        if not isinstance(error, StorageError):  # no further requests to a store that fails
            _forget_attempt(store, drafts)
        raise


def _forget_attempt(store: Store, drafts: Sequence[str]) -> None:
    """Deletes what a failed attempt left in a folder without a run. Never hides the error that ended the attempt."""
    try:
        if read_record(store) is not None or find_driver(store) is not None:
            return
        for entry in [each for prefix in (*drafts, LEASE_FOLDER) for each in store.list(prefix)]:
            store.delete(entry.key)
        if isinstance(store, LocalStore):
            for name in {prefix.partition("/")[0] for prefix in (*drafts, LEASE_FOLDER) if "/" in prefix}:
                with contextlib.suppress(OSError):  # the folder has other files, or never existed
                    (store.root / name).rmdir()
    except FaceattrError as error:
        logger.debug("attempt not forgotten", exc_info=error)


def _end(thread: threading.Thread, lease: Lease, why: str | None) -> None:
    thread.join()
    lease.release(why)


def _lives(
    store: Store,
    number: int,
    state: dict[str, Any],
    *,
    is_alive: Callable[[dict[str, Any]], bool | None],
    ttl_s: float,
    sleep: Callable[[float], None],
) -> bool:
    if state["released"]:
        return False
    seen = is_alive(state["owner"])
    if seen is not None:
        return seen
    polls = 10
    for _ in range(polls):
        sleep(ttl_s / polls)
        now = _state(store, number)
        if now is None or now["released"]:
            return False
        if now["beats"] != state["beats"]:
            return True
    return False


def _state(store: Store, number: int) -> dict[str, Any] | None:
    where = join_uri(store.uri, _key(number))
    try:
        state = decode_versioned(store.get(_key(number)), where)
    except MissingObjectError:  # deleted by the next driver
        return None
    with damage_named(where):
        owner, why = state["owner"], state.get("why")
        _ = (owner["host"], owner["machine"], owner["started"], int(owner["pid"]), state["beats"], state["released"])
        if why is not None and not isinstance(why, str):
            raise TypeError(f"'why': expected text, found {why!r}")
    return state


def _numbers(store: Store) -> list[int]:
    names = (entry.key.removeprefix(LEASE_FOLDER).removesuffix(".json") for entry in store.list(LEASE_FOLDER))
    return [int(name) for name in names if name.isdecimal()]


def _key(number: int) -> str:
    return f"{LEASE_FOLDER}{number:08d}.json"


def _encode(owner: dict[str, Any], *, beats: int, released: bool = False, why: str | None = None) -> bytes:
    return encode_versioned({"owner": owner, "beats": beats, "released": released, "why": why})
