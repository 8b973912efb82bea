"""Ends a stream whose actors never start, while everything before them already works.

Ray Data's own limit, `wait_for_min_actors_s`, holds reading and decoding back until the actors have loaded their model.
"""

import signal
import threading
from collections.abc import Iterator
from typing import TypeVar

from faceattr.errors import RunError
from faceattr.jobs.cluster.milestones import is_reached
from faceattr.jobs.cluster.recipe import ACTOR, READY
from faceattr.timeline import note

_Block = TypeVar("_Block")


def first_within(wait_s: float, blocks: Iterator[_Block]) -> Iterator[_Block]:
    """Passes blocks on. To be consumed in the main thread, which is interrupted when the time is over.

    Args:
        wait_s: longest wait for the first actor, in seconds; the first block may take longer.
        blocks: what the actors give.

    Raises:
        RunError: no actor was ready in time.
    """
    late, main = threading.Event(), threading.get_ident()

    def check() -> None:
        if not is_reached(ACTOR, READY):
            late.set()
            # A real signal, which wakes the main thread out of a wait for a lock; `interrupt_main` would not.
            signal.pthread_kill(main, signal.SIGINT)

    timer = threading.Timer(wait_s, check)
    timer.daemon = True
    timer.start()
    try:
        for number, block in enumerate(blocks):
            timer.cancel()
            if number == 0:
                note("first block")
            yield block
    except KeyboardInterrupt:
        if late.is_set():
            raise RunError(
                f"--workers.wait-s {wait_s:g}: no actor was ready by then. The cluster may not have the CPUs, GPUs or "
                "memory that one claims, or loading the model takes longer; nothing is lost, run the same command again"
            ) from None
        raise
    finally:
        timer.cancel()
