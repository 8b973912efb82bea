"""Ends a stream whose actors never start, while everything before them already works.

Ray Data's own limit, `wait_for_min_actors_s`, holds reading and decoding back until the actors have loaded their model.
"""

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, wait
from itertools import islice
from typing import TypeVar

from faceattr.errors import RunError
from faceattr.jobs.cluster.milestones import is_reached
from faceattr.jobs.cluster.recipe import ACTOR, READY
from faceattr.timeline import note

_Block = TypeVar("_Block")


def first_within(wait_s: float, blocks: Iterable[_Block]) -> Iterator[_Block]:
    """Passes blocks on.

    Args:
        wait_s: longest wait for the first actor, in seconds; the first block may take longer.
        blocks: what the actors give. A thread takes the first one; it is left behind if no actor is ready in time.

    Raises:
        RunError: no actor was ready in time.
    """
    first: Future[list[_Block]] = Future()
    # Once: every iterator over the batches of a data set runs the whole stream.
    stream = iter(blocks)
    threading.Thread(target=_take_first, args=(stream, first), name="first-block", daemon=True).start()
    if not wait([first], wait_s).done and not is_reached(ACTOR, READY):
        raise RunError(
            f"--workers.wait-s {wait_s:g}: no actor was ready by then. The cluster may not have the CPUs, GPUs or "
            "memory that one claims, or loading the model takes longer; nothing is lost, run the same command again"
        )
    for block in first.result():
        note("first block")
        yield block
    yield from stream


def _take_first(stream: Iterator[_Block], first: "Future[list[_Block]]") -> None:
    """Sets the first block, in a list that is empty if there is none, or the error that came in its place."""
    try:
        first.set_result(list(islice(stream, 1)))
    except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
        first.set_exception(error)
