"""Differences between two settings, as one line each."""

from collections.abc import Iterator, Mapping
from typing import Any


def describe_differences(there: Any, here: Any) -> list[str]:
    """Returns `key: there ..., here ...` for every dotted key whose values differ; both arguments are JSON values."""
    return [f"{key}: there {_brief(old)}, here {_brief(new)}" for key, old, new in _differences(there, here)]


def differing_keys(there: Any, here: Any) -> list[str]:
    """Returns the dotted keys whose values differ; both arguments are JSON values."""
    return [key for key, _, _ in _differences(there, here)]


def _differences(there: Any, here: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        for key in sorted({*there, *here}):
            yield from _differences(there.get(key), here.get(key), f"{path}.{key}".lstrip("."))
    elif there != here:
        yield path, there, here


def _brief(value: Any, most: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."
