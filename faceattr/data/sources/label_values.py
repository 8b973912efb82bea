"""Texts and numbers of foreign files as label values. An empty cell is unknown, never no.

Also labels as text, in the form that a plain table has (`table.py`), so that writing and reading match: binary 1 or 0;
multiclass and identity the class name, coarse ones joined by `|`; ages 25, 20-29 or 70+; unknown empty.
"""

import math
import re
from typing import Any

import pyarrow as pa

from faceattr.attributes import Attribute
from faceattr.data.label_columns import AGE_LIMIT, LabelRow, age_label
from faceattr.data.sources.source import BadRow

# -1 is no, as CelebA and label lists write it. Unknown must be an empty cell.
_BINARY = {"1": 1, "0": 0, "-1": 0, "true": 1, "false": 0, "yes": 1, "no": 0}
_UNKNOWN = frozenset(["", "na", "n/a", "nan", "null", "none"])
_AGE_RANGE = re.compile(r"(\d+)\s*-\s*(\d+)")
_AGE_FROM = re.compile(r"(?:(\d+)\s*\+|(?:>=?|more than)\s*(\d+))")


def text_of(value: Any) -> str:
    """Returns a cell as text: Parquet's 1, 1.0 and True become `1`, `1` and `true`, as in a CSV."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _whole(text: str) -> str:
    # pandas writes an integer column with missing values as 1.0.
    return text[:-2] if text.endswith(".0") else text


def is_unknown(text: str) -> bool:
    """Whether a cell means unknown."""
    return text.lower() in _UNKNOWN


def is_binary(text: str) -> bool:
    """Whether a cell is a yes or a no."""
    return _whole(text.lower()) in _BINARY


def parse_binary(text: str, name: str) -> int | None:
    """Returns 1, 0, or None for an empty cell. Raises BadRow otherwise."""
    if text in _BINARY:  # nearly all cells of a large file
        return _BINARY[text]
    if is_unknown(text):
        return None
    value = _BINARY.get(_whole(text.lower()))
    if value is None:
        raise BadRow("value", f"{name} {text!r} is none of 1, 0, -1, true, false, yes, no")
    return value


def parse_score(text: str, name: str) -> float | None:
    """Returns a probability, or None for an empty cell. Raises BadRow otherwise."""
    if is_unknown(text):
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= 1.0:
        raise BadRow("value", f"{name} {text!r} is not a number from 0 to 1")
    return value


def parse_age(text: str, name: str) -> LabelRow:
    """Returns the columns of an age `25`, a range `20-29` (both ends included) or an open one `70+`; none if empty.

    Fractions are cut to completed years. Raises BadRow for anything else.
    """
    if is_unknown(text):
        return {}
    low, high = _age_bounds(text.lower())
    if math.isnan(low) or not 0 <= low < high <= AGE_LIMIT:
        raise BadRow("value", f"{name} {text!r} is not an age from 0 to {AGE_LIMIT - 1:.0f}, such as 25, 20-29 or 70+")
    return age_label(name, low, high)


def _age_bounds(text: str) -> tuple[float, float]:
    if match := _AGE_RANGE.fullmatch(text):
        return float(match[1]), float(match[2]) + 1.0
    if match := _AGE_FROM.fullmatch(text):
        return float(match[1] or match[2]), AGE_LIMIT
    try:
        value = float(text)
    except ValueError:
        return math.nan, math.nan
    if not math.isfinite(value):
        return math.nan, math.nan
    years = float(math.floor(value))
    return years, years + 1.0


def attribute_name(text: str) -> str:
    """Converts a foreign column name to ours: `No_Beard` is `no_beard`, `5_o_Clock_Shadow` `five_o_clock_shadow`."""
    plain = re.sub(r"[^a-z0-9]+", "_", text.strip().lower()).strip("_")
    return f"five{plain[1:]}" if plain.startswith("5_o") else plain


def identity_classes(names: set[str]) -> tuple[str, ...]:
    """Returns the class order of identities: by number if all are numbers, else by text. It is stored."""
    if all(name.isascii() and name.isdigit() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def label_texts(attribute: Attribute, table: pa.Table) -> list[str]:
    """Returns the labels of one attribute, one text per row, without scores."""
    name = attribute.name
    if attribute.is_years:
        ranges = zip(table[f"{name}_low"].to_pylist(), table[f"{name}_high"].to_pylist(), strict=True)
        return ["" if low is None else _age_text(low, high) for low, high in ranges]
    labels = table[name].to_pylist()
    if attribute.is_yes_no:
        return ["" if label is None else str(label) for label in labels]
    masks = table[f"{name}_mask"].to_pylist() if f"{name}_mask" in table.column_names else [None] * len(labels)
    return [_class_text(attribute.classes, *pair) for pair in zip(labels, masks, strict=True)]


def _class_text(classes: tuple[str, ...], label: int | None, mask: int | None) -> str:
    if label is not None:
        return classes[label]
    return "" if mask is None else "|".join(name for index, name in enumerate(classes) if mask >> index & 1)


def _age_text(low: float, high: float) -> str:
    if high >= AGE_LIMIT and high - low > 1:
        return f"{low:g}+"
    return f"{low:g}" if high - low == 1 else f"{low:g}-{high - 1:g}"
