"""What a stream of images waits for, moment by moment, as Ray Data's operators show it while it runs."""

import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import ray.data
from ray.data._internal.execution.operators.actor_pool_map_operator import ActorPoolMapOperator

from faceattr.jobs.images.decode import DecodeImages

_INTERVAL_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The state of a stream.

    Attributes:
        actors: running actors.
        active: actors that have a block.
        decoding: whether a task decodes.
        decoders_wanted: whether blocks wait to be decoded.
        reading: whether a task lists or reads images, or has to.
    """

    actors: int
    active: int
    decoding: bool
    decoders_wanted: bool
    reading: bool

    def waited_for(self) -> dict[str, float]:
        """Returns stage to its share of this moment.

        The model has the share of the actors with a block. What the others wait for is decoding if blocks queue up
        before it, or if all are read; it is reading if decoding keeps pace with what is read.
        """
        shares = {"reading": 0.0, "decoding": 0.0, "model": self.active / self.actors if self.actors else 0.0}
        if self.decoders_wanted or (self.decoding and not self.reading):
            shares["decoding"] = 1 - shares["model"]
        elif self.reading:
            shares["reading"] = 1 - shares["model"]
        return shares


class StageWatch:
    """Looks at the operators of a stream several times a second, from its first rows until the `with` block ends."""

    def __init__(self) -> None:
        self._dataset: Any = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stages", daemon=True)
        self._seconds = dict.fromkeys(("reading", "decoding", "model"), 0.0)
        self._total_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._dataset is not None:
            self._thread.join()

    def follow(self, dataset: ray.data.Dataset) -> None:
        """Begins to watch a data set that is about to be consumed."""
        self._dataset = dataset
        self._thread.start()

    def shares(self) -> dict[str, float]:
        """Returns stage to the share of the time that was waited for it, 0 to 1; 0 if all rows came at once.

        `faceattr.data.runs.limit` says what the shares mean.
        """
        total_s = self._total_s or 1.0
        return {stage: round(seconds / total_s, 4) for stage, seconds in self._seconds.items()}

    def _watch(self) -> None:
        while (executor := self._dataset._current_executor) is None:
            # Ray Data keeps its executor from the first rows on (Ray 2.60; a test checks this).
            if self._done.wait(_INTERVAL_S):
                return
        seen_s = time.monotonic()
        while not self._done.wait(_INTERVAL_S):
            now_s = time.monotonic()
            for stage, share in _look_at(executor._topology).waited_for().items():
                self._seconds[stage] += share * (now_s - seen_s)
            self._total_s += now_s - seen_s
            seen_s = now_s


def _look_at(topology: dict[Any, Any]) -> Moment:
    """Reads the state of the operators: list, read, decode, model, in this order."""
    names = [operator.name for operator in topology]
    (place,) = [place for place, name in enumerate(names) if DecodeImages.__name__ in name]  # named after its class
    states = list(topology.values())
    before, decoder, behind = states[:place], states[place], states[place + 1 :]
    (pool,) = [state.op._actor_pool for state in behind if isinstance(state.op, ActorPoolMapOperator)]
    return Moment(
        actors=pool.num_running_actors(),
        active=pool.num_active_actors(),
        decoding=decoder.op.num_active_tasks() > 0,
        decoders_wanted=decoder.total_enqueued_input_blocks() > 0,
        reading=any(state.op.num_active_tasks() or state.total_enqueued_input_blocks() for state in before),
    )
