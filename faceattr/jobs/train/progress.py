"""Progress of a training, read by its driver from the model folder: a line per epoch, and one for the current epoch."""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TextIO

from faceattr.data.stores.store import Store
from faceattr.errors import StorageError
from faceattr.jobs.cluster.progress import format_duration
from faceattr.logs import is_json, measured
from faceattr.training.history import read_history, read_progress
from faceattr.training.loop.state import EpochRecord

logger = logging.getLogger(__name__)
_POLL_S = 1.0
# Interval of a terminal's line, and of a log's.
_TERMINAL_INTERVAL_S = 1.0
_LOG_INTERVAL_S = 30.0
# An older note was written by workers that no longer exist.
_FRESH_S = 60.0


class TrainProgress:
    """Shows the progress of a training.

    Args:
        store: the model folder.
        stream: where the progress is written, standard error by default; a terminal gets a line that rewrites itself.
        log: is told the figures of every epoch and its number from 0, also of the epochs of earlier sessions.
    """

    def __init__(
        self, store: Store, *, stream: TextIO | None = None, log: Callable[[EpochRecord, int], None] | None = None
    ) -> None:
        self._store = store
        self._log = log or (lambda record, step: None)
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty() and not is_json()
        earlier = read_history(store)
        for record in earlier:
            self._log(record, int(record["epoch"]))
        self._num_shown = len(earlier)
        self._shown_s = time.monotonic()
        self._done = threading.Event()

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Shows progress while the block runs."""
        thread = threading.Thread(target=self._follow, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()
            with contextlib.suppress(StorageError):  # the outcome of the run itself counts
                self.update()

    def _follow(self) -> None:
        while not self._done.wait(_POLL_S):
            try:
                self.update()
            except StorageError as error:
                logger.warning("progress cannot be read: %s", error)

    def update(self) -> None:
        """Shows epochs that have ended since the last call, or the progress of the current epoch."""
        history = read_history(self._store)
        note = read_progress(self._store)
        for record in history[self._num_shown :]:
            line = describe_epoch(record, history, None if note is None else note["num_epochs"])
            self._write(line, {"event": "epoch", **record}, last=True)
            self._log(record, int(record["epoch"]))
        self._num_shown = max(self._num_shown, len(history))
        interval_s = _TERMINAL_INTERVAL_S if self._terminal else _LOG_INTERVAL_S
        num_over = int(history[-1]["epoch"]) + 1 if history else 0
        if note is None or note["epoch"] < num_over or time.time() - note["written"] > _FRESH_S:
            return
        if time.monotonic() - self._shown_s >= interval_s:
            self._write(describe_note(note), {"event": "progress", **note}, last=False)

    def _write(self, line: str, figures: Mapping[str, Any], *, last: bool) -> None:
        self._shown_s = time.monotonic()
        if not self._terminal:
            logger.info("%s", line, extra=measured(**figures))
            return
        end = "\n" if last else ""
        self._stream.write(f"\r\x1b[2K{line}{end}")
        self._stream.flush()


def describe_epoch(record: EpochRecord, history: Sequence[EpochRecord], num_epochs: int | None) -> str:
    """Formats `epoch 3/30 · loss 0.91 · val loss 0.88 · objective 0.88 · 812 images/s · data wait 1% · ETA 12m`."""
    done = int(record["epoch"]) + 1
    total = num_epochs or done
    recent = [each["train_s"] + each["val_s"] for each in history[-5:]]
    left_s = (total - done) * sum(recent) / len(recent)
    return " · ".join(
        [
            f"epoch {done}/{total}",
            f"loss {record['train/loss']:.4f}",
            f"val loss {record['val/loss']:.4f}",
            f"objective {record['objective']:.4f}",
            f"{record['images_per_s']:,.1f} images/s",
            f"data wait {record['data_wait_share']:.1%}",
            f"ETA {format_duration(left_s)}",
        ]
    )


def describe_note(note: dict[str, Any]) -> str:
    """Formats `epoch 4/30 · batch 120/500 · 805 images/s · 8 workers · epoch ends in 1m 02s`."""
    left = (note["num_batches"] - note["batch"]) / note["batch"]
    seconds = left * note["seconds"]
    return " · ".join(
        [
            f"epoch {note['epoch'] + 1}/{note['num_epochs']}",
            f"batch {note['batch']:,}/{note['num_batches']:,}",
            f"{note['images_per_s']:,.1f} images/s",
            f"{note['world_size']} worker{'s' * (note['world_size'] != 1)}",
            f"epoch ends in {format_duration(seconds)}",
        ]
    )
