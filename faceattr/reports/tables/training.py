"""Figures of a training run as tables: the best epoch as text, all epochs as CSV and for TensorBoard."""

import csv
import io
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tensorboardX import SummaryWriter

from faceattr.attributes import Attribute, AttributeSet
from faceattr.training.loop.state import EpochRecord
from faceattr.training.metrics import shown_figures


def best_record(history: Sequence[EpochRecord], best_epoch: int) -> EpochRecord:
    """Returns the record of an epoch by its number."""
    return next(record for record in history if int(record["epoch"]) == best_epoch)


def figures_of(record: EpochRecord, attribute: Attribute) -> dict[str, float]:
    """Returns the shown validation figures of an attribute that are defined."""
    values = {name: record[f"val/{attribute.name}/{name}"] for name in shown_figures(attribute)}
    return {name: value for name, value in values.items() if math.isfinite(value)}


def describe_figures(record: EpochRecord, attributes: AttributeSet) -> str:
    """Returns one line per attribute: its number of labelled validation images, then its figures."""
    width = max(len(name) for name in attributes.names)
    lines = []
    for attribute in attributes.attributes:
        count = int(record[f"val/{attribute.name}/count"])
        shown = "  ".join(f"{name} {value:.3f}" for name, value in figures_of(record, attribute).items())
        lines.append(f"{attribute.name:<{width}}  {count:>9,}  {shown or 'no label in validation'}")
    return "\n".join([f"{'attribute':<{width}}  {'images':>9}  validation", *lines])


def encode_csv(history: Sequence[EpochRecord]) -> bytes:
    """Encodes one row per epoch and one column per figure; empty if undefined."""
    columns = list(dict.fromkeys(name for record in history for name in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    for record in history:
        writer.writerow({name: repr(value) if math.isfinite(value) else "" for name, value in record.items()})
    return text.getvalue().encode()


def encode_events(history: Sequence[EpochRecord]) -> bytes:
    """Encodes all epochs as one TensorBoard event file."""
    with tempfile.TemporaryDirectory(prefix="faceattr-events-") as folder:
        with SummaryWriter(folder) as writer:
            for record in history:
                for name, value in record.items():
                    if math.isfinite(value) and name not in ("epoch", "ended"):
                        writer.add_scalar(name, value, int(record["epoch"]), walltime=record["ended"])
        (path,) = Path(folder).iterdir()
        return path.read_bytes()
