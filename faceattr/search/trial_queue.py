"""The queue of a search: which trials, or stacks of trials that train as one, run next; and the records so far.

A trial's settings are stored in the folder before it starts, and its record when it has ended. A resumed search starts
with the trials that were begun and have not ended, with their settings.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from faceattr.data.stores.store import Store
from faceattr.errors import ConfigError
from faceattr.search.records import TrialRecord, begin_trial, end_trial, read_begun, read_records, trial_id
from faceattr.search.sampler import Sampler

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrialGroup:
    """Trials that run together.

    Attributes:
        numbers: numbers of the trials.
        settings: settings of each trial, key -> value.
        stacked: whether they train as one.
    """

    numbers: tuple[int, ...]
    settings: tuple[Mapping[str, Any], ...]
    stacked: bool

    @property
    def name(self) -> str:
        """The name for messages: t0003, or t0000-t0063."""
        first, last = trial_id(self.numbers[0]), trial_id(self.numbers[-1])
        return first if first == last else f"{first}-{last}"

    def to_tune(self) -> dict[str, Any]:
        """Returns the config of one of Tune's trials, to which Tune may add keys."""
        return {"work": asdict(self)}

    @classmethod
    def from_tune(cls, config: Mapping[str, Any]) -> "TrialGroup":
        """Restores the group from a config that `to_tune` made."""
        return cls(**config["work"])

    def fail(self, error: str) -> tuple[TrialRecord, ...]:
        """Returns the records of its trials if all failed for the same reason."""
        return tuple(
            TrialRecord(number=number, values=values, status="failed", error=error)
            for number, values in zip(self.numbers, self.settings, strict=True)
        )


class TrialQueue:
    """Hands out one group of trials after another, and takes their records.

    Attributes:
        records: trial number -> record, of all trials that have ended.
        num_samples: number of trials of the search.
    """

    def __init__(
        self,
        store: Store,
        sampler: Sampler | None,
        *,
        num_samples: int,
        round_size: int,
        learns: bool,
        stack_key: Callable[[int, Mapping[str, Any]], str | None],
    ) -> None:
        """Reads the trials in the folder of the search.

        Args:
            store: folder of the search.
            sampler: draws settings; is told the records of trials that have ended. None: only trials that have begun
                are handed out.
            num_samples: number of trials of the search.
            round_size: number of trials that are drawn at a time.
            learns: whether the sampler needs all records of a round before the next is drawn.
            stack_key: number and settings of a trial -> key that the trials of one stack share, or None.

        Raises:
            StorageError: the folder cannot be read.
        """
        self._store, self._sampler, self._stack_key = store, sampler, stack_key
        self._round_size, self._learns = round_size, learns
        self.num_samples = num_samples
        self.records = {record.number: record for record in read_records(store)}
        self._begun = read_begun(store)
        self._queue: list[TrialGroup] = []
        self._running: dict[int, TrialGroup] = {}
        self._next = max([*self._begun, -1]) + 1
        unfinished = {number: values for number, values in self._begun.items() if number not in self.records}
        self._enqueue(unfinished)

    @property
    def is_over(self) -> bool:
        """Whether every trial has ended."""
        is_drawn = self._sampler is None or self._next >= self.num_samples
        return not self._queue and not self._running and is_drawn

    @property
    def num_running(self) -> int:
        """Number of trials that are running."""
        return len(self._running)

    @property
    def num_pieces(self) -> int:
        """Number of groups that are running."""
        return len({work.numbers for work in self._running.values()})

    def take(self) -> TrialGroup | None:
        """Returns the next group; None while it must wait, and once all are handed out."""
        while self._sampler is not None and not self._queue and self._next < self.num_samples:
            if self._learns and self._round_size > 1 and self._running:
                return None
            stop = min(self._next + self._round_size, self.num_samples)
            drawn = {number: self._sampler.ask(number) for number in range(self._next, stop)}
            self._next = stop
            self._enqueue(drawn)
        if not self._queue:
            return None
        work = self._queue.pop(0)
        for number, values in zip(work.numbers, work.settings, strict=True):
            if number not in self._begun:
                begin_trial(self._store, number, values)
                self._begun[number] = dict(values)
        self._running.update(dict.fromkeys(work.numbers, work))
        return work

    def _enqueue(self, trials: Mapping[int, Mapping[str, Any]]) -> None:
        stacks: dict[str, list[int]] = {}
        for number, values in trials.items():
            try:
                key = self._stack_key(number, values)
            except ConfigError as error:
                # Values that cannot be combined: the trial fails without a start.
                begin_trial(self._store, number, values)
                self._begun[number] = dict(values)
                self.end(TrialRecord(number=number, values=values, status="failed", error=str(error)))
                continue
            stacks.setdefault(key if key is not None else f"alone {number}", []).append(number)
        for key, numbers in stacks.items():
            self._queue.append(
                TrialGroup(
                    numbers=tuple(numbers),
                    settings=tuple(trials[number] for number in numbers),
                    stacked=not key.startswith("alone ") and len(numbers) > 1,
                )
            )

    def give_back(self, work: TrialGroup) -> bool:
        """Takes back a group that has not ended, to hand it out again; returns whether it was handed out."""
        if not self._running.keys() >= set(work.numbers):
            return False
        for number in work.numbers:
            del self._running[number]
        self._queue.insert(0, work)
        return True

    def end(self, record: TrialRecord) -> None:
        """Takes and stores the record of a trial that has ended, and tells the sampler."""
        self._running.pop(record.number, None)
        self.records[record.number] = record
        end_trial(self._store, record)
        if self._sampler is not None:
            self._sampler.tell(record)

    def values_of(self, number: int) -> Mapping[str, Any]:
        """Returns the settings of a trial that was begun."""
        return self._begun[number]

    def ordered(self) -> Sequence[TrialRecord]:
        """Returns the records by number."""
        return [self.records[number] for number in sorted(self.records)]
