"""How labels are distributed over splits: the stratification report, as counts per split, attribute and class.

Coarse labels are counted under their classes joined by `|`, ages by the decade that contains the middle of their
range, missing labels as `unknown`.
"""

import math
from collections import Counter

import pyarrow as pa

from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.packed.splits import SPLITS

UNKNOWN = "unknown"
COUNT_SCHEMA = pa.schema(
    [
        pa.field("split", pa.string(), nullable=False),
        pa.field("attribute", pa.string(), nullable=False),
        pa.field("class", pa.string(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
    ]
)


class LabelCounts:
    """Adds up tables in a source's schema. Memory grows with the number of classes.

    Attributes:
        rows: images by split.
    """

    def __init__(self, attributes: AttributeSet) -> None:
        self.rows: Counter[str] = Counter()
        self._attributes = attributes
        self._counts: dict[tuple[str, str], Counter[str]] = {}

    def add(self, table: pa.Table, splits: pa.Array) -> None:
        """Counts rows; `splits` (string [n]) has the split of each row."""
        splits_of_rows = splits.to_pylist()
        self.rows.update(splits_of_rows)
        for attribute in self._attributes.attributes:
            classes = _classes_of(attribute, table)
            for (split, name), count in Counter(zip(splits_of_rows, classes, strict=True)).items():
                self._counts.setdefault((split, attribute.name), Counter())[name] += count

    def to_table(self) -> pa.Table:
        """Returns the report: splits and attributes in order, with count 0 for a class that a split lacks."""
        rows = []
        for attribute in self._attributes.attributes:
            names = self._class_names(attribute)
            for split in SPLITS:
                counts = self._counts.get((split, attribute.name), Counter())
                rows += [
                    {"split": split, "attribute": attribute.name, "class": each, "count": counts[each]}
                    for each in names
                ]
        return pa.Table.from_pylist(rows, schema=COUNT_SCHEMA)

    def _class_names(self, attribute: Attribute) -> list[str]:
        """Returns the defined classes in order, then any others found, `unknown` last."""
        met = {name for split in SPLITS for name in self._counts.get((split, attribute.name), ())}
        others = sorted(met - {*attribute.classes, UNKNOWN}, key=lambda name: (len(name), name))
        return [*attribute.classes, *others, UNKNOWN]

    def problems(self) -> list[str]:
        """Returns what would impair training: empty splits, attributes without labels, classes missing in train."""
        found = [f"the split {split!r} is empty" for split in SPLITS if not self.rows[split]]
        for attribute in self._attributes.attributes:
            counts = self._counts.get(("train", attribute.name), Counter())
            if not set(counts) - {UNKNOWN}:
                found.append(f"attribute {attribute.name!r} has no label in train")
                continue
            coarse = {part for name in counts for part in name.split("|")}
            absent = [name for name in attribute.classes if name not in coarse]
            if absent:
                shown = ", ".join(absent[:5]) + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
                found.append(f"attribute {attribute.name!r} has no label {shown} in train")
        return found


def _classes_of(attribute: Attribute, table: pa.Table) -> list[str]:
    name, classes = attribute.name, attribute.classes
    if attribute.is_years:
        ranges = zip(table[f"{name}_low"].to_pylist(), table[f"{name}_high"].to_pylist(), strict=True)
        return [UNKNOWN if low is None else _decade(low, high) for low, high in ranges]
    labels = table[name].to_pylist()
    masks = table[f"{name}_mask"].to_pylist() if f"{name}_mask" in table.column_names else [None] * len(labels)
    return [
        classes[label] if label is not None else UNKNOWN if mask is None else _joined(classes, mask)
        for label, mask in zip(labels, masks, strict=True)
    ]


def _joined(classes: tuple[str, ...], mask: int) -> str:
    return "|".join(name for index, name in enumerate(classes) if mask >> index & 1)


def _decade(low: float, high: float) -> str:
    # The middle of [20, 30) is 25; that of the completed years [29, 30) is 29.5, still in this decade.
    start = math.floor((low + high) / 20) * 10
    return f"{start}-{start + 9}"
