"""A search space: dotted keys of the train config, and the possible values of each.

optim.epochs: 5                                  fixed for all trials
optim.lr: {loguniform: [1e-4, 1e-2]}             also uniform, randint (both ends included)
freeze.depth: {choice: [all, 9]}
optim.layer_decay:                               searched only where another key has one of some values
uniform: [0.6, 1.0]
when: {freeze.depth: [9]}
else: 1.0                                      elsewhere; the shared setting by default
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np
import optuna

from faceattr.config.overrides import override, read_setting
from faceattr.config.train import TrainConfig
from faceattr.data.sources.options import near_hint
from faceattr.errors import ConfigError
from faceattr.search.distributions import Choice, Distribution, parse_distribution
from faceattr.yaml_files import load_yaml  # noqa: F401 - what spaces are read with

# Keys that set the data, the output or the resources, not the training; or that would make trials incomparable.
_NOT_SEARCHED = (
    "data",
    "output",
    "preset",
    "attributes",
    "dry_run",
    "resume_from",
    "resume_at",
    "feed.balance",
    "thresholds.",
    "storage.",
    "ray.",
    "workers.",
)
_CONDITION_KEYS = ("when", "else")


@dataclass(frozen=True)
class Searched:
    """One searched key.

    Attributes:
        distribution: its possible values.
        when: other key -> values; searched only if every other key has one of its values.
        otherwise: (value,) used where the key is not searched; () for the shared setting.
    """

    distribution: Distribution
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    otherwise: tuple[Any, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns the form that a space file has."""
        when = {"when": {key: list(values) for key, values in self.when.items()}} if self.when else {}
        return self.distribution.to_json() | when | ({"else": self.otherwise[0]} if self.otherwise else {})


class Space:
    """The settings that trials of a search may differ in.

    Attributes:
        fixed: key -> value of all trials.
        searched: key -> its possible values; a key comes after the keys that it depends on.
    """

    def __init__(self, fixed: Mapping[str, Any], searched: Mapping[str, Searched]) -> None:
        """Sorts the keys.

        Raises:
            ConfigError: nothing is searched, or conditions name keys that are not searched, or each other.
        """
        if not searched:
            raise ConfigError("the space searches nothing: expected a key with uniform, loguniform, randint or choice")
        for key, each in searched.items():
            _check_conditions(key, each, searched)
        try:
            order = list(TopologicalSorter({key: each.when.keys() for key, each in searched.items()}).static_order())
        except CycleError as error:
            raise ConfigError(f"the space's conditions name each other in a circle: {error.args[1]}") from error
        self.fixed = dict(fixed)
        self.searched = {key: searched[key] for key in order}

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        """Draws random values of all keys that are searched or have a value elsewhere."""
        return self._choose(lambda key, distribution: distribution.draw(rng))

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Returns values that Optuna chooses."""
        return self._choose(lambda key, distribution: distribution.suggest(trial, key))

    def find_values(self, base: TrainConfig) -> dict[str, Any] | None:
        """Returns the shared settings as `draw` would return them: key -> value.

        None if the space excludes one of them.
        """
        values = self._choose(lambda key, distribution: read_setting(base, key))
        possible = all(distribution.holds(values[key]) for key, distribution in self.active(values).items())
        filled = all(values[key] == read_setting(base, key) for key in values)
        return values if possible and filled else None

    def _choose(self, choose: Any) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, each in self.searched.items():
            if all(values.get(other) in wanted for other, wanted in each.when.items()):
                values[key] = choose(key, each.distribution)
            elif each.otherwise:
                values[key] = each.otherwise[0]
        return values

    def active(self, values: Mapping[str, Any]) -> dict[str, Distribution]:
        """Returns the keys that were searched, not filled in, in a trial with these values."""
        return {
            key: each.distribution
            for key, each in self.searched.items()
            if all(values.get(other) in wanted for other, wanted in each.when.items())
        }

    def possible(self, key: str) -> tuple[Any, ...] | None:
        """Returns the extreme values of a searched key, and its value elsewhere; None if it is not searched."""
        if key not in self.searched:
            return None
        each = self.searched[key]
        return (*each.distribution.extremes, *each.otherwise)

    def to_json(self) -> dict[str, Any]:
        """Returns the form that a space file has."""
        return {**self.fixed, **{key: each.to_json() for key, each in self.searched.items()}}

    def describe(self) -> str:
        """Describes the space, one line per key."""
        width = max(map(len, (*self.fixed, *self.searched)))
        lines = [f"  {key:<{width}}  {value}" for key, value in self.fixed.items()]
        for key, each in self.searched.items():
            ((kind, content),) = each.distribution.to_json().items()
            when = " and ".join(f"{other} in {list(values)}" for other, values in each.when.items())
            elsewhere = f", else {each.otherwise[0]}" if each.otherwise else ""
            lines.append(f"  {key:<{width}}  {kind} {content}{f' where {when}' if when else ''}{elsewhere}")
        return "\n".join(lines)


def _check_conditions(key: str, each: Searched, searched: Mapping[str, Searched]) -> None:
    for other, values in each.when.items():
        if other not in searched:
            raise ConfigError(f"{key}: when: {other!r} is not searched; {near_hint(other, searched)}")
        if not values:
            raise ConfigError(f"{key}: when: expected values of {other}")
        distribution = searched[other].distribution
        impossible = [
            value for value in values if isinstance(distribution, Choice) and value not in distribution.values
        ]
        if impossible:
            raise ConfigError(
                f"{key}: when: {other} is never {impossible[0]!r}; it is one of {list(distribution.extremes)}"
            )


def parse_space(content: Mapping[str, Any], where: str) -> Space:
    """Parses the content of a space file.

    Args:
        content: dotted key -> value, or distribution.
        where: address of the file, for messages.

    Raises:
        ConfigError: the content is not a space.
    """
    fixed: dict[str, Any] = {}
    searched: dict[str, Searched] = {}
    for dotted, value in content.items():
        key = dotted.replace("-", "_") if "loss.weights." not in dotted else dotted
        if not isinstance(value, dict):
            fixed[key] = value
            continue
        try:
            when = {str(other): _as_tuple(values) for other, values in dict(value.get("when", {})).items()}
            plain = {name: each for name, each in value.items() if name not in _CONDITION_KEYS}
            otherwise = (value["else"],) if "else" in value else ()
            searched[key] = Searched(parse_distribution(plain), when, otherwise)
        except (ConfigError, TypeError, ValueError) as error:
            raise ConfigError(f"{where}: {dotted}: {error}") from error
    try:
        return Space(fixed, searched)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _as_tuple(values: Any) -> tuple[Any, ...]:
    return tuple(values) if isinstance(values, list) else (values,)


def check_space(space: Space, base: TrainConfig, attributes: Sequence[str]) -> TrainConfig:
    """Refuses a space that no trial can be drawn from.

    Args:
        space: space of the search.
        base: settings that the trials share.
        attributes: names of the attributes to learn.

    Returns:
        The base with the fixed values of the space.

    Raises:
        ConfigError: a key is unknown (the nearest is named) or cannot be searched, or a value is impossible.
    """
    for key in (*space.fixed, *space.searched):
        if any(key == each or (each.endswith(".") and key.startswith(each)) for each in _NOT_SEARCHED):
            raise ConfigError(f"space: {key!r} cannot be part of a space, since trials would not be comparable")
        named = key.removeprefix("loss.weights.")
        if named != key and named not in attributes:
            raise ConfigError(f"space: {key!r}: no such attribute is learnt; {near_hint(named, attributes)}")
    try:
        base = override(base, space.fixed)
    except ConfigError as error:
        raise ConfigError(f"space: {error}") from error
    for key in space.searched:
        for value in space.possible(key) or ():
            try:
                override(base, {key: value})
            except ConfigError as error:
                raise ConfigError(f"space: {key} cannot be {value!r}: {error}") from error
    for key in ("loss.main",):
        names = [base.loss.main, *(space.possible(key) or ())]
        unknown = [name for name in names if name is not None and name not in attributes]
        if unknown:
            raise ConfigError(f"{key}: {unknown[0]!r} is not learnt; {near_hint(unknown[0], attributes)}")
    return base
