"""Progress of a run: a line that rewrites itself in a terminal, an occasional log line elsewhere.

Also the rows done over time, in few points however long a run takes.
"""

import logging
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceattr.data.runs.commit import OK
from faceattr.errors import RunError, escape
from faceattr.logs import is_json, measured

logger = logging.getLogger(__name__)
_TERMINAL_INTERVAL_S = 0.5
_LOG_INTERVAL_S = 10.0
# The rate shown is the mean over this many last seconds, so that start-up does not distort the ETA.
_RATE_WINDOW_S = 60.0


class Progress:
    """Counts the rows of a session and shows its progress.

    Args:
        total: number of rows of the run.
        done: number of rows that earlier sessions did.
        positives: binary attributes whose positive rate is shown.
        stream: where the progress is written, standard error by default; a terminal gets one line that rewrites itself.
    """

    def __init__(self, total: int, done: int, positives: Sequence[str] = (), stream: TextIO | None = None) -> None:
        self._total = total
        self._done = done
        self._positives = {name: [0, 0] for name in positives}
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty() and not is_json()
        self._started_s = time.monotonic()
        self._shown_s = self._started_s
        self._shown_rows = -1
        self._is_over = False
        self._window: deque[tuple[float, int]] = deque()
        self.num_rows = 0
        self.reasons: Counter[str] = Counter()
        self._samples = RateSamples()

    def add(self, rows: pa.Table) -> None:
        """Counts rows that have arrived, and shows the line when it is due."""
        self.num_rows += len(rows)
        for entry in rows["status"].value_counts().to_pylist():
            if entry["values"] != OK:
                self.reasons[entry["values"]] += entry["counts"]
        for name, (yes, known) in self._positives.items():
            self._positives[name] = [
                yes + (pc.sum(rows[name]).as_py() or 0),
                known + len(rows) - rows[name].null_count,
            ]
        now = time.monotonic()
        # The rate over time begins with the first rows, since the time before is start-up.
        self._samples.add(self.elapsed_s, self._done + self.num_rows)
        self._window.append((now, self.num_rows))
        while now - self._window[0][0] > _RATE_WINDOW_S and len(self._window) > 2:
            self._window.popleft()
        if now - self._shown_s >= (_TERMINAL_INTERVAL_S if self._terminal else _LOG_INTERVAL_S):
            self.show()

    @property
    def samples(self) -> list[tuple[float, int]]:
        """(seconds, rows done) from the first rows on; see `RateSamples`."""
        return self._samples.points

    @property
    def elapsed_s(self) -> float:
        """Seconds since the session began to wait for rows."""
        return time.monotonic() - self._started_s

    def rate(self) -> float:
        """Returns images per second over the last minute.

        0 until two blocks have come, since start-up distorts it. A session that ended with one: its mean.
        """
        if self._window:
            (first_s, first), (last_s, last) = self._window[0], self._window[-1]
            if last_s > first_s:
                return (last - first) / (last_s - first_s)
        return self.num_rows / self.elapsed_s if self._is_over else 0.0

    def show(self) -> None:
        """Shows the line now."""
        self._shown_s, self._shown_rows = time.monotonic(), self.num_rows
        if self._terminal:
            self._stream.write(f"\r\x1b[2K{self.line()}")
            self._stream.flush()
        else:
            logger.info("progress %s", self.line(), extra=measured(**self.figures()))

    def figures(self) -> dict[str, Any]:
        """Returns what the line shows, as numbers: `eta_s` in seconds, positive rates by attribute from 0 to 1."""
        done, rate = self._done + self.num_rows, self.rate()
        return {
            "event": "progress",
            "done": done,
            "total": self._total,
            "images_per_s": round(rate, 2),
            "eta_s": round(max(self._total - done, 0) / rate, 1) if rate else None,
            "rejected": sum(self.reasons.values()),
            "positive": {name: round(yes / known, 4) for name, (yes, known) in self._positives.items() if known},
        }

    def line(self) -> str:
        """Formats done/total, share, rate, ETA, rejects and positive rates."""
        done, rate = self._done + self.num_rows, self.rate()
        left_s = max(self._total - done, 0) / rate if rate else None  # a block delivered twice counts twice
        parts = [
            f"{done:,}/{self._total:,} ({done / self._total:.1%})",
            f"{rate:,.1f} images/s" if rate else "? images/s",
            f"ETA {format_duration(left_s)}",
            f"rejected {sum(self.reasons.values()):,}",
        ]
        parts += [f"{name} {yes / known:.1%}" for name, (yes, known) in self._positives.items() if known]
        return " · ".join(parts)

    def close(self) -> None:
        """Shows the last line, unless a log has it already, and ends it."""
        self._is_over = True
        self._samples.add(self.elapsed_s, self._done + self.num_rows, is_last=True)
        if self._terminal or self._shown_rows != self.num_rows:
            self.show()
        if self._terminal:
            self._stream.write("\n")


def format_duration(seconds: float | None) -> str:
    """Formats seconds as `1h 05m`, `3m 07s` or `12s`; `?` for None."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"


class ErrorBudget:
    """Stops a run whose input is bad, at the first row that makes the limit on rejects impossible to meet.

    Rejected rows, including the ones of earlier sessions, are compared with all rows of the plan. So neither the order
    of the images nor a resume or a retry changes the verdict.

    Args:
        max_share: largest allowed share of rejected rows.
        num_rows: number of rows of the plan.
        count_earlier: counts rejected rows that are committed already; called once, at the first judgement. A session
            also judges before it reads an image: the rejects of earlier sessions may exceed the limit already.
    """

    def __init__(self, max_share: float, num_rows: int, count_earlier: Callable[[], int] = lambda: 0) -> None:
        self._max_share = max_share
        self._num_rows = num_rows
        self._count_earlier = count_earlier
        self._num_earlier: int | None = None
        # One bit per row: an engine may deliver a block twice.
        self._seen = np.zeros(num_rows // 8 + 1, np.uint8)
        self._reasons: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}

    def add(self, rows: pa.Table) -> None:
        """Counts rows. Raises RunError once more rows of the run are bad than allowed."""
        self.observe(rows)
        if self._reasons:
            self.judge()

    def observe(self, rows: pa.Table) -> None:
        """Counts rows without judging."""
        bad = self._new_rows(rows.filter(pc.not_equal(rows["status"], OK)))
        name = "uri" if "uri" in bad.column_names else "image_id"
        for status, image, error in zip(
            *(bad[column].to_pylist() for column in ("status", name, "error")), strict=True
        ):
            self._reasons[status] += 1
            examples = self._examples.setdefault(status, [])
            if len(examples) < 3:
                examples.append(f"{escape(image)} ({escape(error)})")

    def _new_rows(self, bad: pa.Table) -> pa.Table:
        numbers, places = np.unique(bad["row"].to_numpy(), return_index=True)
        index, bit = numbers >> 3, np.uint8(1) << (numbers & 7).astype(np.uint8)
        is_new = (self._seen[index] & bit) == 0
        np.bitwise_or.at(self._seen, index, bit)
        return bad.take(pa.array(np.sort(places[is_new])))

    def judge(self) -> None:
        """Raises RunError if more rows are bad than the whole run may have."""
        if self._num_earlier is None:
            self._num_earlier = self._count_earlier()
        num_bad = sum(self._reasons.values()) + self._num_earlier
        if num_bad / self._num_rows <= self._max_share:  # a quotient equals a share such as 0.29 exactly
            return
        shown = "\n".join(
            f"  {reason}: {count:,} images, such as\n    " + "\n    ".join(self._examples[reason])
            for reason, count in self._reasons.most_common(3)
        )
        shown = shown or "  see them with `faceattr status RUN --rejects`"
        earlier = f", {self._num_earlier:,} of them found by earlier sessions," if self._num_earlier else ""
        raise RunError(
            f"{num_bad:,} of {self._num_rows:,} images ({num_bad / self._num_rows:.1%}) cannot be used{earlier or ','} "
            f"more than --max-error-share {self._max_share:g}. The commonest reasons:\n{shown}\nNothing is lost: raise "
            "--max-error-share and run the same command again to process the rest; then --retry-failed retries the "
            "images that were corrected. Or start a new run in another --output."
        )


_FIRST_INTERVAL_S = 0.5
_MOST_POINTS = 400


class RateSamples:
    """Records how many rows were done when; if there are too many points, every other one is dropped.

    Attributes:
        points: (seconds, rows done), in order of time.
    """

    def __init__(self) -> None:
        self.points: list[tuple[float, int]] = []
        self._interval_s = _FIRST_INTERVAL_S

    def add(self, seconds: float, num_rows: int, *, is_last: bool = False) -> None:
        """Adds a point if the one before is old enough; the first and the last point are always added."""
        if self.points and not is_last and seconds - self.points[-1][0] < self._interval_s:
            return
        self.points.append((round(seconds, 2), num_rows))
        if len(self.points) > _MOST_POINTS:
            self.points = self.points[::2]
            self._interval_s *= 2
