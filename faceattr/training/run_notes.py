"""What a training writes into its folder while it goes on: figures of each epoch, and how far it is.

metrics.jsonl       one line an epoch; figures that are not defined are null
progress.json       the epoch that goes on, rewritten every few seconds
"""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from faceattr.data.json_files import decode_lines, decode_versioned, encode_versioned
from faceattr.data.storage import Store, join_uri
from faceattr.data.store_types import MissingObjectError
from faceattr.training.state import EpochRecord
from faceattr.training.targets import Batch

METRICS_KEY = "metrics.jsonl"
PROGRESS_KEY = "progress.json"
_INTERVAL_S = 3.0


def write_history(store: Store, history: Sequence[EpochRecord]) -> None:
    """Writes the figures of all epochs so far."""
    store.put(METRICS_KEY, b"".join(encode_versioned(each) + b"\n" for each in history))


def read_history(store: Store) -> list[EpochRecord]:
    """The figures of all epochs so far; NaN where one is not defined."""
    try:
        data = store.get(METRICS_KEY)
    except MissingObjectError:
        return []
    epochs = decode_lines(data, join_uri(store.uri, METRICS_KEY))
    return [{name: math.nan if value is None else value for name, value in each.items()} for each in epochs]


def read_progress(store: Store) -> dict[str, Any] | None:
    """The note of a `ProgressNote`, or None if there is none."""
    try:
        return decode_versioned(store.get(PROGRESS_KEY), join_uri(store.uri, PROGRESS_KEY))
    except MissingObjectError:
        return None


class ProgressNote:
    """Tells the driver, through the folder, which step of which epoch a worker is at."""

    def __init__(self, store: Store, *, num_epochs: int, num_batches: int) -> None:
        self._store = store
        self._fixed = {"num_epochs": num_epochs, "num_batches": num_batches}
        self._written_s = 0.0

    def follow(self, batches: Iterable[Batch], *, epoch: int, world_size: int) -> Iterator[Batch]:
        """The batches themselves, noting every few seconds how many have gone by."""
        started_s, images = time.monotonic(), 0
        for number, batch in enumerate(batches):
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
