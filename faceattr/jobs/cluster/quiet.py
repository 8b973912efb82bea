"""Keeps Ray's own messages from the terminal; FACEATTR_LOG_LEVEL=DEBUG shows them.

They speak of Ray's settings, in words of its source, to a person who gave settings of faceattr. What stops a run is an
error of ours (`cluster_errors`), and the log files in the folder of Ray's session keep the messages.
"""

import contextlib
import faulthandler
import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator

import ray._private.worker
import ray.data

from faceattr.logs import is_debugging

_ABOVE_ALL = logging.CRITICAL + 1
_STANDARD_ERROR = 2


def hush_python() -> None:
    """Keeps the log lines and warnings of Ray's Python code away. Before and after Ray starts: it sets its handlers."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    if is_debugging():
        return
    warnings.filterwarnings("ignore", module=r"ray\b")
    # Of a task that will be tried again, for example: Ray's thread for them prints to standard output, and knows no
    # setting but to be a driver or not (Ray 2.60).
    ray._private.worker.print_to_stdstream = _drop
    for name in ("ray", "ray.data"):  # all others of Ray have one of them as parent
        for handler in logging.getLogger(name).handlers:
            if _is_of_terminal(handler):
                handler.setLevel(_ABOVE_ALL)


@contextlib.contextmanager
def hush_native() -> Iterator[None]:
    """Keeps what native code writes to standard error away in the block; Python's standard error is not changed.

    Ray's C++ code (Ray 2.60) prints an error for every pool of actors of Ray Data: that the pool's own arguments are in
    the object store. It has no setting that is silent. Its log file has the same lines. If the process dies in native
    code, a file `faceattr-native-*` stays in the folder for temporary files, and the stacks are printed.
    """
    if is_debugging():
        yield
        return
    sys.stderr.flush()
    before = sys.stderr
    kept = os.dup(_STANDARD_ERROR)
    written, path = tempfile.mkstemp(prefix="faceattr-native-", suffix=".log")
    os.dup2(written, _STANDARD_ERROR)
    os.close(written)
    faulthandler.enable(kept)
    if _writes_to(before, _STANDARD_ERROR):
        sys.stderr = io.TextIOWrapper(
            io.FileIO(kept, "w", closefd=False),  # unbuffered, as standard error
            encoding=before.encoding,
            errors=before.errors,
            line_buffering=True,
            write_through=True,
        )
    try:
        yield
    finally:
        sys.stderr = before
        faulthandler.disable()
        os.dup2(kept, _STANDARD_ERROR)
        os.unlink(path)
        # `kept` stays open: what still writes to the stream above must not write into another file of that number.


def _drop(data: object, ignore_prefix: bool) -> None:
    """Takes the place of the function by which Ray prints what its processes tell drivers."""


def _is_of_terminal(handler: logging.Handler) -> bool:
    """Whether a handler writes to a standard stream: not to a file, and not to memory, as the caller's own may."""
    if isinstance(handler, logging.FileHandler) or not isinstance(handler, logging.StreamHandler):
        return False
    return isinstance(handler.stream, io.TextIOWrapper)


def _writes_to(stream: object, descriptor: int) -> bool:
    try:
        return isinstance(stream, io.TextIOWrapper) and stream.fileno() == descriptor
    except (OSError, ValueError):  # not a file, as in a test
        return False
