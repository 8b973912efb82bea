"""What a tracker is told of a training or a trial, and who tells it.

The driver does, from the files of the model folder and the records of the trials, so that the report has the same
numbers, a lost worker loses none, and no worker needs a key. Ray's own callbacks see one trial where a search trains
hundreds in one process, and their settings as one nested value.
"""

import contextlib
import importlib.util
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from faceattr.config.shared import LoggerName
from faceattr.errors import ConfigError

# Settings that say where something is, and nothing of what is trained.
_OF_PLACES = ("output", "dry_run", "resume", "resume_from", "preset", "storage", "ray", "loggers")
_LOCAL_PATH = re.compile(r"^(?:file:|~|\.{0,2}/)")


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """A training, or a trial of a search.

    Attributes:
        run_id: the same for all sessions of it; a tracker continues what it has under this id.
        name: its name for people.
        group: what belongs together: the id of a search; None for a training.
        settings: the resolved settings, by dotted key.
    """

    run_id: str
    name: str
    group: str | None
    settings: Mapping[str, Any]


class Tracker(Protocol):
    """A place for metrics."""

    def begin(self, run: TrackedRun) -> None:
        """Opens a run, or the one that an earlier session opened."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Logs finite metrics of one step of the open run; the same step may come again."""

    def end(self, *, failed: bool) -> None:
        """Closes the run."""


def check_loggers(names: Sequence[LoggerName]) -> None:
    """Raises ConfigError if the package of a logger is missing, or its library would ask for a key."""
    for name in names:
        if importlib.util.find_spec(name) is None:  # an extra of the same name
            raise ConfigError(f"--loggers {name}: needs the package {name}: pip install 'faceattr[{name}]'")
    open_trackers(names)


def open_trackers(names: Sequence[LoggerName]) -> list[Tracker]:
    """Returns a tracker per name. Raises ConfigError if one cannot be used as it is set up."""
    found: list[Tracker] = []
    for name in names:  # late: each takes a second to import
        if name == "wandb":
            from faceattr.jobs.trackers.to_wandb import WandbTracker  # noqa: PLC0415

            found.append(WandbTracker())
        else:
            from faceattr.jobs.trackers.to_mlflow import MlflowTracker  # noqa: PLC0415

            found.append(MlflowTracker())
    return found


@contextlib.contextmanager
def tracked(names: Sequence[LoggerName], run: TrackedRun) -> Iterator[Callable[[Mapping[str, Any], int], None]]:
    """Opens a run with every tracker for the block, and closes it as failed if the block raises.

    Yields:
        A function to be called with the metrics of a step; numbers that are not finite are left out.
    """
    trackers = open_trackers(names)
    for tracker in trackers:
        tracker.begin(run)

    def log(metrics: Mapping[str, Any], step: int) -> None:
        numbers = _finite_numbers(metrics)
        for tracker in trackers:
            tracker.log(numbers, step)

    failed = True
    try:
        yield log
        failed = False
    finally:
        for tracker in trackers:
            tracker.end(failed=failed)


def list_settings(config: Any) -> dict[str, Any]:
    """Returns the settings of a config by dotted key, without places; of a local path only the last name."""
    content = {name: value for name, value in asdict(config).items() if name not in _OF_PLACES}
    return dict(_flatten(content, ""))


def _flatten(value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, each in value.items():
        if isinstance(each, Mapping) and each:
            yield from _flatten(each, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _shown(each)


def _shown(value: Any) -> Any:
    if isinstance(value, str) and _LOCAL_PATH.match(value):
        return value.rstrip("/").rpartition("/")[2]
    return [_shown(each) for each in value] if isinstance(value, list | tuple) else value


def _finite_numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers of a record that are finite."""
    numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    return {name: float(value) for name, value in numbers.items() if math.isfinite(value)}
