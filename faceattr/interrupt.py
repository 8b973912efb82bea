"""Ctrl-C while a command's packages are being imported: prints one line and exits with code 130.

The scripts import this module first, before anything that takes seconds. `faceattr.cli` replaces the handler when it
runs a job.
"""

import os
import signal
import threading
from types import FrameType

STOPPED = "stopped by the user; what is committed stays, run the same command again to resume"


def _end_at_once(number: int, frame: FrameType | None) -> None:
    # Not by an exception: an import could swallow it, and there is nothing to clean up yet.
    os.write(2, f"{STOPPED}\n".encode())
    os._exit(128 + signal.SIGINT)


if (
    threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, _end_at_once)
