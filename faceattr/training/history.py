"""Files that a training run writes while it runs: figures of every epoch, and progress within an epoch.

metrics.jsonl       one line per epoch; undefined figures are null
progress.json       the current epoch, rewritten every few seconds
"""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from faceattr.data.formats.json_files import decode_lines, decode_versioned, encode_versioned
from faceattr.data.runs.status import METRICS_KEY, PROGRESS_KEY
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.store import MissingObjectError, Store
from faceattr.training.loop.state import EpochRecord
from faceattr.training.targets import Batch

_INTERVAL_S = 3.0


def write_history(store: Store, history: Sequence[EpochRecord]) -> None:
    """Writes the figures of all epochs so far."""
    store.put(METRICS_KEY, b"".join(encode_versioned(each) + b"\n" for each in history))


def read_history(store: Store) -> list[EpochRecord]:
    """Reads the figures of all epochs so far; undefined ones are NaN."""
    try:
        data = store.get(METRICS_KEY)
    except MissingObjectError:
        return []
    epochs = decode_lines(data, join_uri(store.uri, METRICS_KEY))
    return [{name: math.nan if value is None else value for name, value in each.items()} for each in epochs]


def read_progress(store: Store) -> dict[str, Any] | None:
    """Reads what a `ProgressNote` wrote, or returns None if there is nothing."""
    try:
        return decode_versioned(store.get(PROGRESS_KEY), join_uri(store.uri, PROGRESS_KEY))
    except MissingObjectError:
        return None


class ProgressNote:
    """Tells the driver, through a file in the run folder, which step of which epoch a worker has reached."""

    def __init__(self, store: Store, *, num_epochs: int, num_batches: int) -> None:
        self._store = store
        self._fixed = {"num_epochs": num_epochs, "num_batches": num_batches}
        self._written_s = 0.0

    def follow(self, batches: Iterable[Batch], *, epoch: int, world_size: int) -> Iterator[Batch]:
        """Yields the batches unchanged, and writes every few seconds how many have been processed."""
        started_s, images = 0.0, 0
        for number, batch in enumerate(batches):
            if number == 0:  # until here decoders started: that says nothing of the batches to come
                started_s = time.monotonic()
            yield batch
            images += len(batch) * world_size
            now_s = time.monotonic()
            if now_s - self._written_s > _INTERVAL_S:
                self._written_s = now_s
                seconds = now_s - started_s
                self._write(
                    {
                        "epoch": epoch,
                        "batch": number + 1,
                        "seconds": seconds,
                        "images_per_s": images / seconds,
                        "world_size": world_size,
                    }
                )

    def _write(self, note: dict[str, Any]) -> None:
        self._store.put(PROGRESS_KEY, encode_versioned({**note, **self._fixed, "written": time.time()}))
