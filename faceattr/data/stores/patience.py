"""How long a process waits for a store that does not answer: until a deadline, and only briefly while it exits.

A process that was told to stop must not wait for the retries of all its threads, one deadline after the other.
Therefore `leave` sets a flag for the whole process: from then on every wait ends at once, and an operation that is
started later is retried for `LEAVING_S` only.
"""

import contextlib
import logging
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from faceattr.errors import FaceattrError

logger = logging.getLogger(__name__)
LEAVING_S = 2.0
_MAX_PAUSE_S = 5.0
# A connection attempt or a read inside the client cannot be interrupted; a call that hangs longer than this is left.
_LAST_WORDS_S = 5.0
_leaving = threading.Event()


def leave() -> None:
    """Ends all waits of this process, now and in the future. Safe to call in a signal handler."""
    _leaving.set()


def stay() -> None:
    """Reverts `leave`, for processes that continue after a command, such as notebooks and tests."""
    _leaving.clear()


def is_leaving() -> bool:
    """Whether this process is exiting."""
    return _leaving.is_set()


class Patience:
    """The retries of one operation.

    Args:
        deadline_s: how long it is retried, in seconds.
    """

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._started_s = time.monotonic()
        self._pause_s = 0.1

    @property
    def waited_s(self) -> float:
        """Seconds since the operation started."""
        return time.monotonic() - self._started_s

    def pause(self, least_s: float = 0.0) -> bool:
        """Waits before the next attempt; returns False at once if there is none.

        Args:
            least_s: the least wait, as a server may ask for.
        """
        most_s = min(self._deadline_s, LEAVING_S) if is_leaving() else self._deadline_s
        if self.waited_s + max(self._pause_s, least_s) > most_s:
            return False
        # Full jitter, so that many readers do not retry at the same moment.
        pause_s = max(random.uniform(0.5, 1.0) * self._pause_s, least_s)
        self._pause_s = min(2 * self._pause_s, _MAX_PAUSE_S)
        if is_leaving():
            time.sleep(pause_s)
            return True
        # Woken by `leave`: an operation that has already waited longer than LEAVING_S is given up.
        return not _leaving.wait(pause_s) or self.waited_s < LEAVING_S


@contextlib.contextmanager
def leave_on(
    number: signal.Signals, *, then_stay: bool = False, again: Callable[[], None] | None = None
) -> Iterator[None]:
    """Turns a signal into KeyboardInterrupt in the block, and ends the waits of all threads for a store.

    Only the main thread may set handlers; in another thread the block runs as it is.

    Args:
        number: the signal.
        then_stay: whether the process continues after the block as if nothing had happened.
        again: called in place of another KeyboardInterrupt when the signal comes while the process is exiting.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        if again is not None and is_leaving():
            again()
        leave()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, interrupt)
    try:
        yield
    finally:
        signal.signal(number, before)
        if then_stay:
            stay()


@contextlib.contextmanager
def leaving() -> Iterator[None]:
    """Marks the process as exiting in the block: waits in it, and of other threads meanwhile, end at once."""
    was_leaving = is_leaving()
    leave()
    try:
        yield
    finally:
        if not was_leaving:
            stay()


def say_last_words(action: Callable[[], object], what: str) -> None:
    """Runs a final write of a failed run, briefly and without hiding the first error.

    Args:
        action: writes; a FaceattrError is logged, not raised; after Ctrl-C at level DEBUG, since nobody reads on.
        what: what is written, for the log.
    """
    level = logging.DEBUG if isinstance(sys.exc_info()[1], KeyboardInterrupt) else logging.WARNING

    def run() -> None:
        try:
            action()
        except FaceattrError as error:
            logger.log(level, "not written on the way out: %s: %s", what, error)

    # A daemon thread, since a read that hangs must not keep the process alive.
    thread = threading.Thread(target=run, name="last-words", daemon=True)
    with leaving():
        thread.start()
        thread.join(_LAST_WORDS_S)
    if thread.is_alive():
        logger.log(level, "not written on the way out: %s: the store does not answer", what)


def write_on_the_way_out(action: Callable[[], object], what: str) -> None:
    """For `finally` blocks: runs an action; while an exception propagates, it does so as `say_last_words` does."""
    if sys.exc_info()[1] is None:
        action()
    else:
        say_last_words(action, what)
