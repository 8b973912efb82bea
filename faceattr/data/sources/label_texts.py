"""Labels as text, in the form that a plain table is read in (`table.py`): what one writes, the other reads back.

binary 1 or 0; multiclass and identity the class name, coarse ones joined by `|`; ages 25, 20-29 or 70+; unknown empty
"""

import pyarrow as pa

from faceattr.attributes import Attribute
from faceattr.data.label_columns import AGE_LIMIT


def label_texts(attribute: Attribute, table: pa.Table) -> list[str]:
    """The labels of one attribute, one text a row; scores are left out."""
    name = attribute.name
    if attribute.kind == "age":
        ranges = zip(table[f"{name}_low"].to_pylist(), table[f"{name}_high"].to_pylist(), strict=True)
        return ["" if low is None else _age_text(low, high) for low, high in ranges]
    labels = table[name].to_pylist()
    if attribute.kind == "binary":
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
