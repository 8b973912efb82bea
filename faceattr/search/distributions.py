"""The possible values of one setting: a range or a list, drawn by a random number generator or chosen by Optuna."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from faceattr.errors import ConfigError


class Distribution(Protocol):
    """The possible values of a setting."""

    @property
    def extremes(self) -> Sequence[Any]:
        """The possible values that matter for checks: the ends of a range, or the whole list."""
        ...

    def holds(self, value: Any) -> bool:
        """Returns whether a value is possible."""
        ...

    def draw(self, rng: np.random.Generator) -> Any:
        """Draws a random value."""
        ...

    def suggest(self, trial: optuna.Trial, key: str) -> Any:
        """Returns a value that Optuna chooses."""
        ...

    def to_optuna(self) -> BaseDistribution:
        """Returns the same distribution as Optuna's type."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Returns the form that a space file has."""
        ...


@dataclass(frozen=True)
class Uniform:
    """A number from a range, uniform in itself or in its logarithm."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise ConfigError(f"expected a range [low, high] of numbers, found [{self.low}, {self.high}]")
        if self.log and self.low <= 0:
            raise ConfigError(f"expected a range above 0 for loguniform, found [{self.low}, {self.high}]")

    @property
    def extremes(self) -> Sequence[float]:
        """Both ends."""
        return (self.low, self.high)

    def holds(self, value: Any) -> bool:
        """See `Distribution`."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def draw(self, rng: np.random.Generator) -> float:
        """See `Distribution`."""
        if self.log:
            return float(min(max(math.exp(rng.uniform(math.log(self.low), math.log(self.high))), self.low), self.high))
        return float(rng.uniform(self.low, self.high))

    def suggest(self, trial: optuna.Trial, key: str) -> float:
        """See `Distribution`."""
        return trial.suggest_float(key, self.low, self.high, log=self.log)

    def to_optuna(self) -> BaseDistribution:
        """See `Distribution`."""
        return FloatDistribution(self.low, self.high, log=self.log)

    def to_json(self) -> dict[str, Any]:
        """See `Distribution`."""
        return {"loguniform" if self.log else "uniform": [self.low, self.high]}


@dataclass(frozen=True)
class RandInt:
    """A whole number from `low` to `high`, both included."""

    low: int
    high: int

    def __post_init__(self) -> None:
        whole = all(isinstance(each, int) and not isinstance(each, bool) for each in (self.low, self.high))
        if not whole or self.low > self.high:
            raise ConfigError(f"expected a range [low, high] of whole numbers, found [{self.low}, {self.high}]")

    @property
    def extremes(self) -> Sequence[int]:
        """Both ends."""
        return (self.low, self.high)

    def holds(self, value: Any) -> bool:
        """See `Distribution`."""
        return isinstance(value, int) and self.low <= value <= self.high

    def draw(self, rng: np.random.Generator) -> int:
        """See `Distribution`."""
        return int(rng.integers(self.low, self.high + 1))

    def suggest(self, trial: optuna.Trial, key: str) -> int:
        """See `Distribution`."""
        return trial.suggest_int(key, self.low, self.high)

    def to_optuna(self) -> BaseDistribution:
        """See `Distribution`."""
        return IntDistribution(self.low, self.high)

    def to_json(self) -> dict[str, Any]:
        """See `Distribution`."""
        return {"randint": [self.low, self.high]}


@dataclass(frozen=True)
class Choice:
    """One of some values: texts, numbers, true, false or null."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ConfigError("expected at least one value to choose from")
        wrong = [each for each in self.values if not (each is None or isinstance(each, str | int | float | bool))]
        if wrong:
            raise ConfigError(f"expected texts, numbers, true, false or null to choose from, found {wrong[0]!r}")

    @property
    def extremes(self) -> Sequence[Any]:
        """All values."""
        return self.values

    def holds(self, value: Any) -> bool:
        """See `Distribution`."""
        return value in self.values

    def draw(self, rng: np.random.Generator) -> Any:
        """See `Distribution`."""
        return self.values[int(rng.integers(len(self.values)))]

    def suggest(self, trial: optuna.Trial, key: str) -> Any:
        """See `Distribution`."""
        return trial.suggest_categorical(key, self.values)

    def to_optuna(self) -> BaseDistribution:
        """See `Distribution`."""
        return CategoricalDistribution(self.values)

    def to_json(self) -> dict[str, Any]:
        """See `Distribution`."""
        return {"choice": list(self.values)}


_KINDS = ("uniform", "loguniform", "randint", "choice")


def parse_distribution(value: dict[str, Any]) -> Distribution:
    """Reads `{uniform: [0, 1]}`, `{loguniform: [1e-5, 1e-2]}`, `{randint: [1, 4]}` or `{choice: [a, b]}`.

    Raises:
        ConfigError: another kind, or an impossible range.
    """
    ((kind, content),) = value.items() if len(value) == 1 else [(", ".join(map(str, value)), None)]
    if kind not in _KINDS or not isinstance(content, list):
        raise ConfigError(f"expected one of {', '.join(_KINDS)} followed by a list, found {value!r}")
    if kind == "choice":
        return Choice(tuple(content))
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in content)
    if len(content) != 2 or not numbers:
        raise ConfigError(f"expected two numbers for {kind}, [low, high], found {content!r}")
    if kind == "randint":
        return RandInt(*content)
    return Uniform(float(content[0]), float(content[1]), log=kind == "loguniform")
