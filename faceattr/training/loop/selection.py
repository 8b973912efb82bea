"""Selects the best epoch by the selection metric and its direction, and decides when to stop early."""

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from faceattr.config.fit import SelectionConfig
from faceattr.errors import ConfigError
from faceattr.training.metrics import ERROR_NAMES


class Selection:
    """Tracks the selection metric over epochs.

    Attributes:
        larger_is_better: direction of `value_of`.
        best_value: best value so far; None before the first epoch.
        best_epoch: epoch of the best value, from 0.
        num_stale: number of epochs since then in this stage.
    """

    def __init__(self, config: SelectionConfig, known: Iterable[str]) -> None:
        """Starts without epochs.

        Raises:
            ConfigError: a metric is not among the `known` figures.
        """
        self._config = config
        figures = list(known)
        for metric in config.combine or [config.metric]:
            if metric not in figures:
                near = difflib.get_close_matches(metric, figures, n=3, cutoff=0.4)
                key = "combine" if config.combine else "metric"
                raise ConfigError(
                    f"--select.{key}: {metric!r} is no figure of validation; near ones: {near or figures}"
                )
        self.larger_is_better = bool(config.combine) or not _is_error(config.metric)
        self.best_value: float | None = None
        self.best_epoch = -1
        self.num_stale = 0

    def value_of(self, figures: Mapping[str, float], epoch: int) -> float:
        """Returns the selection metric, or the weighted sum of several.

        Raises:
            ConfigError: the metric is undefined, because validation lacks labels for it; diverged outputs are refused
                before, by their loss.
        """
        config = self._config
        for metric in config.combine or [config.metric]:
            if not math.isfinite(figures[metric]):
                raise ConfigError(
                    f"epoch {epoch}: the chosen metric {metric!r} is {figures[metric]}: validation has no label that "
                    "defines it; choose another with --select.metric"
                )
        if not config.combine:
            return figures[config.metric]
        return sum(weight * figures[name] * (-1 if _is_error(name) else 1) for name, weight in config.combine.items())

    def update(self, value: float, epoch: int) -> bool:
        """Adds the value of an epoch; returns whether it is the best so far."""
        gain = math.inf if self.best_value is None else value - self.best_value
        if not self.larger_is_better and self.best_value is not None:
            gain = -gain
        if gain > self._config.min_delta:
            self.best_value, self.best_epoch, self.num_stale = value, epoch, 0
            return True
        self.num_stale += 1
        return False

    def start_stage(self) -> None:
        """Restarts the patience, because different parameters train now."""
        self.num_stale = 0

    @property
    def is_over(self) -> bool:
        """Whether the patience is exhausted."""
        return self._config.patience is not None and self.num_stale >= self._config.patience

    def state_dict(self) -> dict[str, Any]:
        """Returns plain values."""
        return {"best_value": self.best_value, "best_epoch": self.best_epoch, "num_stale": self.num_stale}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores a state from `state_dict`."""
        self.best_value, self.best_epoch = state["best_value"], state["best_epoch"]
        self.num_stale = state["num_stale"]


def find_best_epoch(history: Sequence[Mapping[str, float]], config: SelectionConfig) -> int:
    """Returns the number of the best epoch of a training from its records."""
    known = [name.removeprefix("val/") for name in history[0] if name.startswith("val/")]
    selection = Selection(config, known)
    for record in history:
        selection.update(record["objective"], int(record["epoch"]))
    return selection.best_epoch


def _is_error(metric: str) -> bool:
    return metric.rpartition("/")[2] in ERROR_NAMES
