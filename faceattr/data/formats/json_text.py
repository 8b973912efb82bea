"""The one place where JSON is written: NaN and the infinities, which JSON cannot hold (RFC 8259, 6), become null.

Python's own writer puts `NaN` there, which most other readers refuse, and with it the whole file.
"""

import json
import math
from collections.abc import Mapping
from typing import Any


def encode_json(value: Any, *, indent: int | None = None) -> str:
    """The value as JSON text, in ASCII.

    Args:
        value: numbers, texts, booleans, None, and mappings, lists and tuples of them.
        indent: spaces a level; None for one line.
    """
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:  # a number among them is not finite; or a circle, which the second try refuses again
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
