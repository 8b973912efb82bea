"""Whether the splits are alike: rates of every class by split, and which rates differ by more than chance.

A cell is flagged if its adjusted residual in the table of splits by classes exceeds MIN_Z and the rate differs by more
than MIN_DIFFERENCE:

    z = (n_sc / n_s - n_c / n) / sqrt(n_c / n * (1 - n_c / n) * (1 / n_s - 1 / n))

With millions of images every difference is significant, so the second bound decides there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from faceattr.data.packed.label_counts import UNKNOWN
from faceattr.data.packed.splits import SPLITS

MIN_Z = 4.0
MIN_DIFFERENCE = 0.02
REPORT_SCHEMA = pa.schema(
    [
        pa.field("attribute", pa.string()),
        pa.field("class", pa.string()),
        *(pa.field(split, pa.int64()) for split in SPLITS),
        *(pa.field(f"{split}_rate", pa.float64()) for split in SPLITS),
        pa.field("largest_difference", pa.float64()),
        pa.field("flagged", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class ClassRates:
    """One class in all splits.

    Attributes:
        attribute: name of the attribute.
        label: class name; `unknown` is not a class and has no rates.
        counts: images by split.
        rates: share among the known labels, by split; None for a split without known labels.
        flagged: splits whose rate differs.
    """

    attribute: str
    label: str
    counts: Mapping[str, int]
    rates: Mapping[str, float | None]
    flagged: tuple[str, ...]

    @property
    def largest_difference(self) -> float | None:
        """Largest difference between the rates of two splits."""
        known = [rate for rate in self.rates.values() if rate is not None]
        return max(known) - min(known) if len(known) > 1 else None


def compute_rates(label_counts: pa.Table) -> list[ClassRates]:
    """Returns rates from a table of label counts (`label_counts.COUNT_SCHEMA`), in its order of rows."""
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for row in label_counts.to_pylist():
        of_class = counts.setdefault(row["attribute"], {}).setdefault(row["class"], dict.fromkeys(SPLITS, 0))
        of_class[row["split"]] += row["count"]
    return [each for name, classes in counts.items() for each in _rates_of(name, classes)]


def _rates_of(attribute: str, classes: Mapping[str, Mapping[str, int]]) -> list[ClassRates]:
    known = {label: counts for label, counts in classes.items() if label != UNKNOWN}
    of_split = {split: sum(counts[split] for counts in known.values()) for split in SPLITS}
    total = sum(of_split.values())
    found = []
    for label, counts in classes.items():
        is_known = label != UNKNOWN
        rates = {split: counts[split] / of_split[split] if is_known and of_split[split] else None for split in SPLITS}
        overall = sum(counts.values()) / total if is_known and total else 0.0
        flagged = [
            split
            for split, rate in rates.items()
            if rate is not None and _is_off(rate, overall, of_split[split], total)
        ]
        found.append(
            ClassRates(attribute=attribute, label=label, counts=dict(counts), rates=rates, flagged=tuple(flagged))
        )
    return found


def _is_off(rate: float, overall: float, num_split: int, total: int) -> bool:
    variance = overall * (1 - overall) * (1 / num_split - 1 / total)
    return variance > 0 and abs(rate - overall) > max(MIN_DIFFERENCE, MIN_Z * float(np.sqrt(variance)))


def rates_table(rates: Sequence[ClassRates]) -> pa.Table:
    """Returns the report as a table; `flagged` contains splits separated by spaces."""
    rows = [
        {
            "attribute": each.attribute,
            "class": each.label,
            **each.counts,
            **{f"{split}_rate": rate for split, rate in each.rates.items()},
            "largest_difference": each.largest_difference,
            "flagged": " ".join(each.flagged),
        }
        for each in rates
    ]
    return pa.Table.from_pylist(rows, schema=REPORT_SCHEMA)


def describe_flags(rates: Sequence[ClassRates], most: int = 5) -> list[str]:
    """Returns one line per flagged class, the largest difference first."""
    flagged = sorted((each for each in rates if each.flagged), key=lambda each: -(each.largest_difference or 0.0))
    lines = []
    for each in flagged[:most]:
        shown = ", ".join(f"{split} {rate:.1%}" for split, rate in each.rates.items() if rate is not None)
        lines.append(f"{each.attribute} {each.label}: {shown}")
    return lines + ([f"and {len(flagged) - most} more classes"] if len(flagged) > most else [])
