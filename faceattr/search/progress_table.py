"""The table of a running search: a row for every report of a trial, with the best so far and the time left."""

import sys
import time
from typing import TextIO

from faceattr.logs import describe_message, is_json

_HEADER = f"{'trial':<12} {'epoch':>7}  {'objective':>9}  {'auxiliary':>9}  {'best so far':>19}  {'ETA':>8}  state"
_REPEAT_ROWS = 20


class Board:
    """Writes the rows of the table.

    Args:
        num_samples: number of trials of the search.
        num_done: number of trials that have ended already.
        stream: where the table is written; by default standard output.
    """

    def __init__(self, num_samples: int, num_done: int, stream: TextIO | None = None) -> None:
        self._num_samples, self._num_done, self._first_done = num_samples, num_done, num_done
        self._stream = stream or sys.stdout
        self._started_s = time.monotonic()
        self._best: tuple[float, str] | None = None
        self._num_rows = 0

    def finished(self, objective: float | None, name: str, num: int = 1) -> None:
        """Counts trials that have ended."""
        self._num_done += num
        if objective is not None and (self._best is None or objective > self._best[0]):
            self._best = (objective, name)

    def row(self, name: str, epoch: str, objective: float | None, auxiliary: float | None, state: str) -> None:
        """Writes one row; as JSON, one object."""
        if is_json():
            text = describe_message(
                f"trial {name} {state}",
                event="trial",
                trial=name,
                epoch=epoch,
                objective=objective,
                auxiliary=auxiliary,
                state=state,
                best=None if self._best is None else self._best[0],
            )
            self._stream.write(f"{text}\n")
            self._stream.flush()
            return
        if self._num_rows % _REPEAT_ROWS == 0:
            self._stream.write(f"{_HEADER}\n")
        self._num_rows += 1
        best = "" if self._best is None else f"{self._best[0]:.4f} ({self._best[1]})"
        self._stream.write(
            f"{name:<12} {epoch:>7}  {_number(objective):>9}  {_number(auxiliary):>9}  {best:>19}  {self._eta():>8}  "
            f"{state}\n"
        )
        self._stream.flush()

    def _eta(self) -> str:
        done = self._num_done - self._first_done
        if not done:
            return "?"
        left = max(0, self._num_samples - self._num_done)
        minutes, seconds = divmod(round((time.monotonic() - self._started_s) / done * left), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}h {minutes:02d}m" if hours else f"{minutes}m {seconds:02d}s" if minutes else f"{seconds}s"


def _number(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.4f}"  # noqa: PLR0124 - NaN
