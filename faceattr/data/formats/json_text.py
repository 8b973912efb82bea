"""The only JSON writer: NaN and the infinities, which JSON cannot represent (RFC 8259, section 6), become null.

Python's own writer writes `NaN`, and most other readers then refuse the whole file.
"""

import json
import math
from collections.abc import Mapping
from typing import Any


def encode_json(value: Any, *, indent: int | None = None) -> str:
    """Returns the value as JSON text in ASCII.

    Args:
        value: numbers, texts, booleans, None, and mappings, lists and tuples of them.
        indent: spaces per level; None for one line.
    """
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:  # a number is not finite, or the value refers to itself: the next line raises again
        json.dumps(value)
        return json.dumps(_without_non_finite(value), indent=indent, allow_nan=False)


def _without_non_finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_non_finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_non_finite(each) for each in value]
    return value
