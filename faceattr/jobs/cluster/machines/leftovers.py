"""Ends the processes that Ray leaves on this machine when its session is stopped early.

Ray's processes end with their parent, but an agent that is still starting looks for it only minutes later (Ray 2.60).
All of them inherit a variable of the environment, by which they are found afterwards.
"""

import contextlib
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

from faceattr.interrupt import at_once

_TAG = "FACEATTR_RAY_SESSION"


@contextlib.contextmanager
def ended_with_session() -> Iterator[None]:
    """Ends, after the block, the processes that were started in it before `untag`; also if this one ends at once."""
    tag = f"{_TAG}={uuid.uuid4().hex}"

    def end() -> None:
        for pid in _find(tag.encode()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    os.environ[_TAG] = tag.partition("=")[2]
    try:
        with at_once(end):
            yield
    finally:
        os.environ.pop(_TAG, None)
        end()


def untag() -> None:
    """What this process starts from now on is its own, and stays."""
    os.environ.pop(_TAG, None)


def _find(tag: bytes) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):  # it has ended, or is another user's
                if tag in (entry / "environ").read_bytes().split(b"\0"):
                    yield int(entry.name)
