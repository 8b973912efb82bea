"""Ctrl-C: one line and exit code 130, from the first import of a command to its last line.

The scripts import this module first, before anything that takes seconds: until a job runs, Ctrl-C ends the process at
once. `faceattr.cli` then replaces the handler by one that lets the job release what it holds; a second Ctrl-C ends the
process at once again.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

STOPPED = "stopped by the user"
RUN_STOPPED = f"{STOPPED}; whole shards and epochs stay (faceattr status RUN), the same command does the rest"
EXIT_CODE = 128 + signal.SIGINT
_told = threading.Event()
# Until the command is known, that of most commands.
_message = [RUN_STOPPED]
_line = [RUN_STOPPED]
_last_actions: list[Callable[[], None]] = []


def end_at_once(number: int | None = None, frame: FrameType | None = None) -> None:
    """Prints one line, unless it is printed already, and ends the process without any cleaning up. A signal handler."""
    for action in _last_actions:
        action()
    # Not by an exception: an import could swallow it, and whoever asks twice does not want to wait.
    if not _told.is_set():
        with contextlib.suppress(OSError, ValueError):  # no standard error
            os.write(sys.stderr.fileno(), f"{_line[0]}\n".encode())
    os._exit(EXIT_CODE)


@contextlib.contextmanager
def at_once(action: Callable[[], None]) -> Iterator[None]:
    """Has `end_at_once` do something first, while the block runs. It must be brief, and wait for nothing."""
    _last_actions.append(action)
    try:
        yield
    finally:
        _last_actions.remove(action)


def set_message(message: str, line: str) -> None:
    """Sets what the user is told of a stop: the message, and the line of it in the format of the log."""
    _message[0], _line[0] = message, line


def stop_message() -> str:
    """Returns what the user is told of a stop."""
    return _message[0]


def is_told() -> bool:
    """Whether the user has been told that the command stopped; the next caller is then silent."""
    was_told = _told.is_set()
    _told.set()
    return was_told


def forget_told() -> None:
    """A process that continues after a command, such as a test, tells of the next stop again."""
    _told.clear()


if (
    threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, end_at_once)
