"""How a command ends: errors become one line and an exit code, Ctrl-C one line and 130, a closed pipe none."""

import contextlib
import errno
import gc
import io
import logging
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import TextIO

from faceattr.data.stores.patience import is_leaving, leave_on
from faceattr.errors import FaceattrError, escape
from faceattr.interrupt import EXIT_CODE, end_at_once, forget_told, is_told, stop_message
from faceattr.logs import say_error

# System errors of a full or read-only disk: a condition of the machine, not a fault in our code.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


def guarded(action: Callable[[], int]) -> int:
    """Runs a command from its first word to its last line; returns its exit code."""
    forget_told()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name the terminal cannot encode is no error
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _mapped(action)
    except BrokenPipeError:
        if not _is_unread(sys.stdout) and not _is_unread(sys.stderr):
            raise
        code = 128 + signal.SIGPIPE
    except SystemExit:  # of the parser: a wrong flag, or help
        if _flush_output(0):
            return 1
        raise
    return _flush_output(code)


def interruptible(action: Callable[[], int]) -> int:
    """Runs what may hold a cluster, a lease or files: Ctrl-C raises KeyboardInterrupt in it, a second one ends at once.

    What is imported before is not interruptible, but ends at once: `faceattr.interrupt`.
    """
    with leave_on(signal.SIGINT, then_stay=True, again=end_at_once), _silent_on_the_way_out():
        try:
            return action()
        except (FaceattrError, SystemExit):
            raise
        except Exception as error:
            if is_leaving():  # a library has made another error of the interrupt
                raise KeyboardInterrupt from error
            raise


@contextlib.contextmanager
def _silent_on_the_way_out() -> Iterator[None]:
    """Hides errors of threads and destructors in the block once it was interrupted: they work for what was stopped."""
    of_threads, of_destructors = threading.excepthook, sys.unraisablehook
    threading.excepthook = lambda found: None if is_leaving() else of_threads(found)
    sys.unraisablehook = lambda found: None if is_leaving() else of_destructors(found)
    try:
        yield
    finally:
        threading.excepthook, sys.unraisablehook = of_threads, of_destructors


def _mapped(action: Callable[[], int]) -> int:
    try:
        return action()
    except FaceattrError as error:
        _release(error)
        say_error(str(error), exit_code=error.exit_code)
        return error.exit_code
    except KeyboardInterrupt as error:
        _release(error)
        if not is_told():
            say_error(stop_message(), prefix="", level=logging.WARNING, exit_code=EXIT_CODE)
        return EXIT_CODE
    except OSError as error:
        if error.errno not in _FULL:
            raise
        where = error.filename or "standard output or a temporary file"
        say_error(f"cannot write to {escape(where)}: {error.strerror}", exit_code=1)
        return 1


def _release(error: BaseException) -> None:
    """Releases what the error's frames hold, such as Ray's iterators, whose output would hide our message."""
    silent = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        seen: set[int] = set()
        pending: list[BaseException | None] = [error]
        while pending:
            found = pending.pop()
            if found is None or id(found) in seen:
                continue
            seen.add(id(found))
            traceback.clear_frames(found.__traceback__)
            pending += [found.__cause__, found.__context__]
        gc.collect()
    finally:
        sys.unraisablehook = silent


def _flush_output(code: int) -> int:
    """Flushes standard output while an error can still be reported. A pipe closed by `head` is none; a full disk is."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)
    except OSError as error:
        _discard(sys.stdout)
        say_error(f"cannot write to standard output: {error.strerror}", exit_code=code or 1)
        return code or 1
    return code


def _is_unread(stream: TextIO) -> bool:
    """Whether a stream is a pipe whose reader has exited, as `head` does after ten lines."""
    try:
        watched = select.poll()
        watched.register(stream.fileno(), 0)
        return any(events & select.POLLERR for _, events in watched.poll(0))
    except (OSError, ValueError):  # not a file, as in a test
        return False


def _discard(stream: TextIO) -> None:
    # Without this, the interpreter tries to write the rest again at exit, and reports the failure.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
