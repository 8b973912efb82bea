"""How long a process waits for a store that does not answer: to a deadline, and for moments only on its way out.

A process that has been told to stop must not sit out the retries of its threads, one deadline after the other. So
there is one fact for the whole process, `leave`: from then on every wait ends at once, and an operation that is begun
still is tried for `LEAVING_S`.
"""

import contextlib
import logging
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator

from faceattr.errors import FaceattrError

logger = logging.getLogger(__name__)
LEAVING_S = 2.0
_MAX_PAUSE_S = 5.0
# A connection attempt or a read inside the client is not interrupted; what hangs longer than this is left behind.
_LAST_WORDS_S = 5.0
_leaving = threading.Event()


def leave() -> None:
    """Ends all waits of this process, now and from now on. Safe to be called in a signal handler."""
    _leaving.set()


def stay() -> None:
    """Takes `leave` back: for processes that go on after a command, such as notebooks and tests."""
    _leaving.clear()


def is_leaving() -> bool:
    """Whether this process is on its way out."""
    return _leaving.is_set()


class Patience:
    """The retries of one operation.

    Args:
        deadline_s: how long it is retried, seconds.
    """

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._started_s = time.monotonic()
        self._pause_s = 0.1

    @property
    def waited_s(self) -> float:
        """Seconds since the operation was begun."""
        return time.monotonic() - self._started_s

    def pause(self) -> bool:
        """Waits before the next attempt. False, at once, if there is to be none."""
        most_s = min(self._deadline_s, LEAVING_S) if is_leaving() else self._deadline_s
        if self.waited_s + self._pause_s > most_s:
            return False
        # Full jitter, so that many readers do not come back at the same moment.
        pause_s = random.uniform(0.5, 1.0) * self._pause_s
        self._pause_s = min(2 * self._pause_s, _MAX_PAUSE_S)
        if is_leaving():
            time.sleep(pause_s)
            return True
        # Woken by `leave`: an operation that has waited longer than LEAVING_S by then is given up.
        return not _leaving.wait(pause_s) or self.waited_s < LEAVING_S


@contextlib.contextmanager
def leaving() -> Iterator[None]:
    """The way out of a failed run: no wait in the block, or in other threads while it runs, lasts."""
    was_leaving = is_leaving()
    leave()
    try:
        yield
    finally:
        if not was_leaving:
            stay()


def say_last_words(action: Callable[[], object], what: str) -> None:
    """Runs something that is written on the way out of a failed run: shortly, and without masking the first error.

    Args:
        action: writes it; an error of ours is logged, not raised.
        what: is written, for the log.
    """

    def run() -> None:
        try:
            action()
        except FaceattrError as error:
            logger.warning("not written on the way out: %s: %s", what, error)

    # A daemon thread: one that hangs in a read that no one answers must not keep the process.
    thread = threading.Thread(target=run, name="last-words", daemon=True)
    with leaving():
        thread.start()
        thread.join(_LAST_WORDS_S)
    if thread.is_alive():
        logger.warning("not written on the way out: %s: the store does not answer", what)


def write_on_the_way_out(action: Callable[[], object], what: str) -> None:
    """For `finally`: runs an action; where an error is on its way up already, as `say_last_words` does."""
    if sys.exc_info()[1] is None:
        action()
    else:
        say_last_words(action, what)
