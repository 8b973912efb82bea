"""Command-line words in which every flag occurs once: values of lists are joined, a second single value is refused.

An argument parser silently keeps the last of two equal flags; `--data A --data B` would train on B alone.
"""

import collections.abc
import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from faceattr.errors import ConfigError

FlagKind = Literal["one value", "several values", "pairs", "yes or no"]
# Flags that are not of a config.
_OF_PARSER = frozenset({"help"})
_SEVERAL = (tuple, list, set, frozenset, collections.abc.Sequence)


def flag_kind(hint: Any) -> FlagKind:
    """Returns which values the flag of a field with this type hint takes."""
    if typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    if hint is bool:
        return "yes or no"
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    origins = {typing.get_origin(option) or option for option in options}
    if origins & {dict, Mapping}:
        return "pairs"
    return "several values" if origins & set(_SEVERAL) else "one value"


def list_flags(config_class: type, prefix: str = "") -> Iterator[tuple[str, str, FlagKind]]:
    """Yields (flag, name of the field that it sets, kind) of a config; a field may have several flags.

    Names have no leading dashes, and `-` in place of `_`.
    """
    for name, hint in typing.get_type_hints(config_class, include_extras=True).items():
        flag = f"{prefix}{name}".replace("_", "-")
        if dataclasses.is_dataclass(hint):
            yield from list_flags(typing.cast(type, hint), f"{flag}.")
            continue
        yield flag, flag, flag_kind(hint)
        for extra in typing.get_args(hint)[1:] if typing.get_origin(hint) is typing.Annotated else ():
            for alias in getattr(extra, "aliases", None) or ():
                yield alias.lstrip("-"), flag, flag_kind(hint)


def list_flag_words(config_class: type, prefix: str = "") -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yields (flag, words that it takes) for every flag of a config that takes one of a few words."""
    for name, hint in typing.get_type_hints(config_class).items():
        flag = f"{prefix}{name}".replace("_", "-")
        if dataclasses.is_dataclass(hint):
            yield from list_flag_words(typing.cast(type, hint), f"{flag}.")
        elif found := tuple(dict.fromkeys(_find_choices(hint))):
            yield flag, found


def _find_choices(hint: Any) -> Iterator[str]:
    if typing.get_origin(hint) is Literal:
        yield from map(str, typing.get_args(hint))
    else:
        for each in typing.get_args(hint):
            yield from _find_choices(each)


def name_flag(word: str, kinds: Mapping[str, FlagKind]) -> str:
    """Returns the name of the flag that a command-line word sets: `--ray.no-dashboard` sets `ray.dashboard`."""
    name = word.removeprefix("--").partition("=")[0].replace("_", "-")
    group, dot, last = name.rpartition(".")
    positive = group + dot + last.removeprefix("no-")
    return positive if name not in kinds and kinds.get(positive) == "yes or no" else name


def find_unknown_flag(config_class: type, words: Sequence[str]) -> str | None:
    """Returns what is wrong with the first flag that a config does not have, and the most similar flag; else None."""
    kinds = {flag: kind for flag, _, kind in list_flags(config_class)}
    for word in words:
        name = name_flag(word, kinds)
        if not word.startswith("--") or word == "--" or name in kinds or name in _OF_PARSER:
            continue
        given = word.partition("=")[0]
        # A flag of a group may be given by its own name alone.
        near = difflib.get_close_matches(name, kinds, n=1) or [
            flag for flag in kinds if flag.rpartition(".")[2] == name.rpartition(".")[2]
        ]
        return f"no such flag: {given}" + (f"; did you mean --{near[0]}?" if near else "; --help lists all")
    return None


def gather_flags(config_class: type, words: Sequence[str]) -> list[str]:
    """Returns the words with the values of a repeated flag appended to its first occurrence.

    Args:
        config_class: dataclass whose fields are the flags; unknown flags are left as they are.
        words: words of the command line.

    Raises:
        ConfigError: a flag with one value is given twice, or a flag with pairs has one name twice.
    """
    found = list(list_flags(config_class))
    fields = {flag: field for flag, field, _ in found}
    kinds = {flag: kind for flag, _, kind in found}
    segments: list[list[str]] = [[]]  # each a flag and its values; the first has no flag
    first: dict[str, list[str]] = {}
    current = segments[0]
    for word in words:
        if not word.startswith("--") or word == "--":
            current.append(word)
            continue
        name = name_flag(word, kinds)
        field = fields.get(name)
        if field is None or field not in first:
            current = [word]
            segments.append(current)
            if field is not None:
                first[field] = current
        elif kinds[name] in ("several values", "pairs"):
            current = first[field]
            flag, equals, value = current[0].partition("=")
            current[:1] = [flag, value] if equals else [flag]
            current += [word.partition("=")[2]] if "=" in word else []
        else:
            raise ConfigError(_describe_second(first[field], word, kinds[name]))
    for field, segment in first.items():
        if kinds[field] == "pairs":
            check_each_once(field, _values(segment)[::2])
    return [word for segment in segments for word in segment]


def _values(segment: Sequence[str]) -> list[str]:
    _, equals, value = segment[0].partition("=")
    return [*([value] if equals else []), *segment[1:]]


def _describe_second(before: Sequence[str], word: str, kind: FlagKind) -> str:
    name = word.partition("=")[0]
    if kind == "yes or no":
        return f"{name}: {before[0]} is given already; leave one out"
    return f"{name}: given twice, first as {next(iter(_values(before)), '')!r}; it takes one value, so leave one out"


def check_each_once(flag: str, names: Sequence[str]) -> None:
    """Raises ConfigError if a flag of several values has one of them twice; the error names it."""
    for place, name in enumerate(names):
        if name in names[:place]:
            raise ConfigError(f"--{flag}: expected every value once ({name!r} is given twice), found {tuple(names)!r}")
