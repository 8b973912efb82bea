"""The settings of an application out of a Ray Serve config file, which hands them over as plain values by name."""

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from typing import Any

from faceattr.errors import ConfigError

_Config = typing.TypeVar("_Config")


def read_arguments(config_class: type[_Config], arguments: Mapping[str, Any], group: str = "args") -> _Config:
    """Returns a config with these values, groups included.

    Raises:
        ConfigError: a name is unknown, or a value has another type or is out of range.
    """
    hints = typing.get_type_hints(config_class)
    values: dict[str, Any] = {}
    for name, value in arguments.items():
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(hints)}"
            raise ConfigError(f"{group}: unknown key {name!r}; {hint}")
        kind = hints[name]
        if dataclasses.is_dataclass(kind):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{group}: {name!r} is a group; expected keys below it, found {value!r}")
            values[name] = read_arguments(typing.cast(type, kind), value, f"{group}.{name}")
        elif _fits(value, kind):
            values[name] = value
        else:
            raise ConfigError(f"{group}: {name!r}: expected {kind}, found {value!r}")
    try:
        return config_class(**values)
    except TypeError as error:  # a key without a default is missing
        raise ConfigError(f"{group}: {error}") from error


def _fits(value: Any, kind: Any) -> bool:
    choices = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal:
        return value in choices
    if choices:
        return any(_fits(value, each) for each in choices)
    if kind is float:
        return type(value) in (int, float)
    return type(value) is kind
