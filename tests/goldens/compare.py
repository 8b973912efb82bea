"""Expected values, and how found ones differ from them."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EXPECTED = Path(__file__).parent / "expected"


def read_expected(name: str) -> Any:
    """What `tests.goldens.write` wrote under a name."""
    return json.loads((EXPECTED / f"{name}.json").read_text("utf-8"))


def list_differences(
    found: Any, expected: Any, *, relative: float = 0.0, absolute: float = 0.0, where: str = ""
) -> list[str]:
    """A line for each value that is not the expected one; the order of an object's keys counts.

    Args:
        found: JSON values.
        expected: JSON values.
        relative: by how much a number with a fraction may differ, over the expected one.
        absolute: by how much it may differ at least.
        where: the path to the values.
    """
    return list(_differences(found, expected, relative, absolute, where))


def _differences(found: Any, expected: Any, relative: float, absolute: float, where: str) -> Iterator[str]:
    if isinstance(found, dict) and isinstance(expected, dict):
        if list(found) != list(expected):
            yield f"{where}: expected the keys {list(expected)}, found {list(found)}"
        for name in [name for name in expected if name in found]:
            yield from _differences(found[name], expected[name], relative, absolute, f"{where}/{name}")
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            yield from _differences(one, other, relative, absolute, f"{where}[{number}]")
    elif isinstance(found, float) and isinstance(expected, float):
        if not math.isclose(found, expected, rel_tol=relative, abs_tol=absolute):
            yield f"{where}: expected {expected!r}, found {found!r}"
    elif type(found) is not type(expected) or found != expected:
        yield f"{where}: expected {expected!r}, found {found!r}"
