"""This package's own JSON files, with format versions. Damage gives a one-line error that names the file.

Such a file was written whole by this package, so any misfit is damage or a manual edit.
"""

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from faceattr.data.formats.integrity import REMEDY
from faceattr.data.formats.json_text import encode_json
from faceattr.errors import ConfigError, RunError

_T = TypeVar("_T")
_PLAIN: dict[Any, tuple[type, ...]] = {
    int: (int,),
    float: (int, float),
    str: (str,),
    dict: (dict,),
    Mapping: (dict,),
    list: (list,),
    tuple: (list, tuple),
    types.NoneType: (types.NoneType,),
}
_NAMES = {dict: "an object", list: "a list", str: "text", int: "a number", float: "a number", bool: "true or false"}


def decode_object(data: bytes, where: str) -> dict[str, Any]:
    """Returns the JSON object in a file.

    Args:
        data: the file's bytes.
        where: name of the file in the error.

    Raises:
        RunError: the file is truncated or damaged, or contains something else.
    """
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RunError(f"{where} is damaged: no JSON in UTF-8 ({describe_cause(error)}); {REMEDY}") from error
    if not isinstance(value, dict):
        raise RunError(f"{where} is damaged: expected an object, found {_name(value)}; {REMEDY}")
    return value


def encode_versioned(value: Mapping[str, Any], *, version: int = 1, indent: int | None = None) -> bytes:
    """Encodes one of this package's files: a JSON object with the version of its format.

    Args:
        value: the object, without `schema_version`.
        version: version of the format; increase it, here and in `decode_versioned`, when older readers would fail.
        indent: as in `encode_json`.
    """
    return encode_json({**value, "schema_version": version}, indent=indent).encode()


def decode_versioned(data: bytes, where: str, *, version: int = 1) -> dict[str, Any]:
    """Decodes one of this package's files: a JSON object, returned without its `schema_version`.

    A file without one was written before formats had versions, and is read as version 1.

    Args:
        data: the file's bytes.
        where: name of the file in the error.
        version: the newest version that this code reads.

    Raises:
        RunError: the file is truncated or damaged, or contains something else.
        ConfigError: it was written by a later version of faceattr.
    """
    value = decode_object(data, where)
    found = value.pop("schema_version", 1)
    if type(found) is not int or found < 1:
        raise RunError(f"{where} is damaged: 'schema_version': expected a number from 1 on, found {found!r}; {REMEDY}")
    if found > version:
        raise ConfigError(
            f"{where} has schema version {found}; this faceattr reads versions up to {version}. Use the faceattr that "
            "wrote it, or a later one"
        )
    return value


def decode_lines(data: bytes, where: str) -> list[dict[str, Any]]:
    """Returns the objects of a file with one per line. Raises as `decode_versioned` does, with the line number."""
    lines = data.splitlines()
    return [decode_versioned(line, f"{where}, line {number},") for number, line in enumerate(lines, 1)]


def decode_fields(cls: type[_T], value: object, where: str) -> _T:
    """Creates a dataclass from the JSON object of its fields.

    The types of plain fields are checked; the content of collections and fields of other classes are not.

    Raises:
        RunError: it is not an object, lacks a field, has an unknown field, or a field has another type.
    """
    if not isinstance(value, dict):
        raise RunError(f"{where} is damaged: expected an object, found {_name(value)}; {REMEDY}")
    allowed, required = _fields(typing.cast(Any, cls))
    for name, item in value.items():
        if name not in allowed:
            raise RunError(f"{where}: unknown key {name!r}; it was written by a later version of faceattr, or damaged")
        kinds = allowed[name]
        if kinds and (not isinstance(item, kinds) or (isinstance(item, bool) and bool not in kinds)):
            expected = " or ".join(dict.fromkeys(_NAMES.get(kind, "null") for kind in kinds if kind is not tuple))
            raise RunError(f"{where} is damaged: {name!r}: expected {expected}, found {_name(item)}; {REMEDY}")
    lacking = sorted(required - set(value))
    if lacking:
        raise RunError(f"{where} is damaged: it lacks {lacking[0]!r}; {REMEDY}")
    return cls(**value)


@contextmanager
def damage_named(where: str) -> Iterator[None]:
    """Turns errors while processing a decoded file's values into a RunError that names the file."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        raise RunError(f"{where} is damaged: {describe_cause(error)}; {REMEDY}") from error


def describe_cause(error: BaseException) -> str:
    """Returns the type and text of an error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


@functools.cache
def _fields(cls: Any) -> tuple[dict[str, tuple[type, ...]], frozenset[str]]:
    """Returns the types that JSON may have in each field (none: not checked), and the fields without a default."""
    hints = typing.get_type_hints(cls)
    fields = dataclasses.fields(cls)
    no_default = dataclasses.MISSING
    required = (each.name for each in fields if each.default is no_default and each.default_factory is no_default)
    return {each.name: _plain_types(hints[each.name]) for each in fields}, frozenset(required)


def _plain_types(hint: Any) -> tuple[type, ...]:
    if isinstance(hint, types.UnionType):
        found = [_plain_types(each) for each in typing.get_args(hint)]
        return sum(found, ()) if all(found) else ()
    return _PLAIN.get(typing.get_origin(hint) or hint, ())


def _name(value: object) -> str:
    return "null" if value is None else _NAMES[type(value)]
