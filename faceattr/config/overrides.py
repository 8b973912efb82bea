"""Configs as values: a copy with changed keys, and the YAML that `--config` reads back."""

import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import yaml

from faceattr.errors import ConfigError

_Config = TypeVar("_Config")


def override(config: _Config, values: Mapping[str, Any]) -> _Config:
    """Returns a copy of a config in which some keys have other values; all checks run again.

    Args:
        config: a frozen dataclass of values and groups.
        values: dotted key -> value: `loss.aux_weight` (or `loss.aux-weight`), or `loss.weights.hat` for one entry of a
            mapping.

    Raises:
        ConfigError: no such key (the error names the nearest), a value of the wrong type, or one out of range.
    """
    hints = dict(_list_keys(type(config)))
    changes: dict[str, Any] = {}
    for dotted, value in values.items():
        key, entry = _find_key(dotted, hints)
        if entry is None:
            changes[key] = _convert(dotted, hints[key], value)
        else:
            _, kind = typing.get_args(hints[key])
            before = changes.get(key, _read(config, key))
            changes[key] = {**before, entry: _convert_entry(dotted, kind, value)}
    return _replace(config, changes)


def _list_keys(config_class: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted key, type) of every value below the groups."""
    for name, hint in typing.get_type_hints(config_class).items():
        if is_dataclass(hint):
            yield from _list_keys(typing.cast(type, hint), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", hint


def _find_key(dotted: str, hints: Mapping[str, Any]) -> tuple[str, str | None]:
    """Returns the key and, if the name points into a mapping, the entry in it."""
    key = dotted.replace("-", "_")
    if key in hints:
        return key, None
    for known, hint in hints.items():
        if typing.get_origin(hint) is Mapping and key.startswith(f"{known}."):
            return known, dotted[len(known) + 1 :]
    # `lr` alone resembles no dotted key, but it is the last part of one.
    last = {known.rpartition(".")[2]: known for known in hints}
    near = difflib.get_close_matches(key, hints, n=1) or [last[part] for part in difflib.get_close_matches(key, last)]
    hint_text = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(hints)}"
    raise ConfigError(f"unknown key {dotted!r}; {hint_text}")


def read_setting(config: Any, dotted: str) -> Any:
    """Returns the value of a key. A missing entry of a mapping gives its default: 1 for a loss weight, else None."""
    key, entry = _find_key(dotted, dict(_list_keys(type(config))))
    value = _read(config, key)
    return value if entry is None else value.get(entry, 1.0 if key == "loss.weights" else None)


def _read(config: Any, dotted: str) -> Any:
    for name in dotted.split("."):
        config = getattr(config, name)
    return config


def _replace(config: _Config, changes: Mapping[str, Any]) -> _Config:
    own = {key: value for key, value in changes.items() if "." not in key}
    for group in {key.partition(".")[0] for key in changes if "." in key}:
        inside = {key.partition(".")[2]: value for key, value in changes.items() if key.startswith(f"{group}.")}
        own[group] = _replace(getattr(config, group), inside)
    return replace(config, **own)  # type: ignore[type-var]


def _convert(key: str, hint: Any, value: Any) -> Any:
    """Returns the value in the field's type: a list as a tuple, an int as a float, a numpy scalar as a Python one."""
    plain = value.item() if hasattr(value, "item") else value
    kinds = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    for kind in kinds:
        origin = typing.get_origin(kind) or kind
        if origin is typing.Literal:
            fits = plain in typing.get_args(kind)
        elif origin is tuple:
            fits = isinstance(plain, list | tuple)
        elif origin is float:
            fits = isinstance(plain, int | float) and not isinstance(plain, bool)
        else:
            fits = isinstance(plain, origin) and (origin is bool or not isinstance(plain, bool))
        if fits and origin is Mapping:
            _, entry_kind = typing.get_args(kind)
            return {str(name): _convert_entry(f"{key}.{name}", entry_kind, each) for name, each in plain.items()}
        if fits:
            return origin(plain) if origin in (tuple, float) else plain
    expected = " or ".join(str(each) if typing.get_origin(each) else each.__name__ for each in kinds)
    raise ConfigError(f"{key}: expected {expected.replace('typing.', '')}, found {value!r}")


def _convert_entry(key: str, kind: Any, value: Any) -> Any:
    """Converts one entry of a mapping. If entries are text, numbers and booleans become the text that a flag gives."""
    if kind is str and isinstance(value, bool | int | float):
        return str(value).lower()  # `true`, as JSON has it
    return _convert(key, kind, value)


def dump_config(config: Any) -> str:
    """Returns the config as YAML; reading it by `--config` gives an equal config."""
    return yaml.safe_dump(_to_plain(config), sort_keys=False, allow_unicode=True)


def _to_plain(value: Any) -> Any:
    if is_dataclass(value):
        return {each.name: _to_plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {key: _to_plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(each) for each in value]
    return value
