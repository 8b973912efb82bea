"""Labels of the images of a batch, one `Targets` per attribute, from columns of the label table.

A label may be exact (`known`), coarse (`coarse`: several classes are possible), soft (`score`), or missing. Rows
without a label stay in place and contain zeros, which no loss or metric reads.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import assert_never

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.label_columns import AGE_LIMIT
from faceattr.errors import RunError
from faceattr.models.heads import NUM_YEARS


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Labels of one attribute for n images.

    Attributes:
        value: binary float32 [n], 0 or 1; multiclass and identity int64 [n]; age float32 [n, 2], low <= age < high in
            years; 0 if unknown.
        known: bool [n], whether `value` is a label; an age range is known.
        coarse: bool [n, C], the possible classes of rows with a coarse label, False in other rows; None if the table
            has no coarse labels.
        score: float32 [n] P(yes), or [n, C]; NaN where missing; None if the table has no scores.
        weight: float32 [n], weight of a score, from its answer mass; 1 where missing.
    """

    value: Tensor
    known: Tensor
    weight: Tensor
    coarse: Tensor | None = None
    score: Tensor | None = None

    def __len__(self) -> int:
        return len(self.known)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Targets":
        """Applies a function to every tensor."""
        return Targets(
            value=function(self.value),
            known=function(self.known),
            weight=function(self.weight),
            coarse=None if self.coarse is None else function(self.coarse),
            score=None if self.score is None else function(self.score),
        )

    def to(self, device: torch.device) -> "Targets":
        """Copies to a device; the copy overlaps with computation if the memory is pinned."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def unlabelled(self) -> "Targets":
        """Returns the same rows without labels."""
        return Targets(
            value=torch.zeros_like(self.value),
            known=torch.zeros_like(self.known),
            weight=torch.ones_like(self.weight),
            coarse=None if self.coarse is None else torch.zeros_like(self.coarse),
            score=None if self.score is None else torch.full_like(self.score, float("nan")),
        )

    def take(self, rows: Tensor) -> "Targets":
        """Selects rows by index int64 [m] or mask bool [n]."""
        return self.map(lambda tensor: tensor[rows])


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Images, or their activations at a freezing boundary, and their labels.

    Attributes:
        inputs: uint8 [n, 3, S, S], to be normalised on the device, or float32 [n, ...], used unchanged.
        targets: attribute name -> labels of the same n images.
        seeds: of images that are only cropped yet, the seeds with which `TrainTransform.finish` completes the views.
    """

    inputs: Tensor
    targets: Mapping[str, Targets]
    seeds: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def to(self, device: torch.device) -> "Batch":
        """Copies to a device."""
        targets = {name: each.to(device) for name, each in self.targets.items()}
        return replace(self, inputs=self.inputs.to(device, non_blocking=True), targets=targets)

    def tensors(self) -> Iterator[Tensor]:
        """Yields every tensor of the batch."""
        yield self.inputs
        for each in self.targets.values():
            yield from (tensor for tensor in vars(each).values() if tensor is not None)

    def unlabelled(self) -> "Batch":
        """Returns the same images without labels; they add nothing to a loss."""
        return replace(self, targets={name: each.unlabelled() for name, each in self.targets.items()})

    def pin_memory(self) -> "Batch":
        """Copies to page-locked memory, as `torch.utils.data.DataLoader` requires it."""
        targets = {name: each.map(Tensor.pin_memory) for name, each in self.targets.items()}
        return replace(self, inputs=self.inputs.pin_memory(), targets=targets)


def read_targets(table: pa.Table | pa.RecordBatch, attributes: AttributeSet) -> dict[str, Targets]:
    """Reads the labels per attribute, in the order of `attributes`, onto the CPU.

    Args:
        table: n rows with the packed label columns of `faceattr.data.label_columns`.
        attributes: attributes to read.

    Raises:
        RunError: a column is missing, or a label is outside its range.
    """
    return {attribute.name: _read_attribute(table, attribute) for attribute in attributes.attributes}


def count_bins(attribute: Attribute) -> int:
    """Returns the number of label bins of an attribute: its classes, or the 117 years of an age."""
    match attribute.kind:
        case "age":
            return NUM_YEARS
        case "binary" | "multiclass" | "identity":
            return len(attribute.classes)
    assert_never(attribute.kind)


def _read_attribute(table: pa.Table | pa.RecordBatch, attribute: Attribute) -> Targets:
    match attribute.kind:
        case "age":
            return _read_years(table, attribute.name)
        case "binary":
            return _read_classes(table, attribute, np.float32)
        case "multiclass" | "identity":
            return _read_classes(table, attribute, np.int64)
    assert_never(attribute.kind)


def _read_years(table: pa.Table | pa.RecordBatch, name: str) -> Targets:
    low, known = _numbers(table, f"{name}_low")
    high, _ = _numbers(table, f"{name}_high")
    _check_range(name, np.stack([low, high - 1], 1)[known], AGE_LIMIT)
    value = torch.from_numpy(np.stack([low, high], 1).astype(np.float32))
    return Targets(value=value, known=torch.from_numpy(known), weight=torch.ones(len(known)))


def _read_classes(table: pa.Table | pa.RecordBatch, attribute: Attribute, value_type: type[np.number]) -> Targets:
    name = attribute.name
    label, known = _numbers(table, name)
    num_classes = len(attribute.classes)
    _check_range(name, label[known], num_classes)
    score, weight = _read_scores(table, attribute)
    return Targets(
        value=torch.from_numpy(label.astype(value_type)),
        known=torch.from_numpy(known),
        weight=torch.ones(len(known)) if weight is None else weight,
        coarse=_read_coarse(table, f"{name}_mask", num_classes),
        score=score,
    )


def _read_coarse(table: pa.Table | pa.RecordBatch, name: str, num_classes: int) -> Tensor | None:
    if name not in table.schema.names:
        return None
    bits, known = _numbers(table, name)
    _check_range(name, bits[known].astype(np.float64), 2.0**num_classes)
    return torch.from_numpy((bits[:, None] >> np.arange(num_classes) & 1).astype(bool))


def _read_scores(table: pa.Table | pa.RecordBatch, attribute: Attribute) -> tuple[Tensor | None, Tensor | None]:
    name = f"{attribute.name}_score"
    if name not in table.schema.names:
        return None, None
    if attribute.is_yes_no:
        values, known = _numbers(table, name)
        score = np.where(known, values, np.nan).astype(np.float32)
    else:
        lists = _column(table, name)
        known = lists.is_valid().to_numpy(zero_copy_only=False)
        score = np.full((len(known), len(attribute.classes)), np.nan, np.float32)
        values = lists.flatten().to_numpy(zero_copy_only=False)
        if values.size != known.sum() * score.shape[1]:
            raise RunError(
                f"column {name!r}: expected {score.shape[1]} scores per row, one per class; found another number"
            )
        score[known] = values.reshape(-1, score.shape[1])
    _check_range(name, score[known], 1.0, including=True)
    mass = f"{attribute.name}_mass"
    if mass not in table.schema.names:
        return torch.from_numpy(score), None
    values, given = _numbers(table, mass)
    # The mass belongs to the score: a label without a score has the full weight.
    weight = np.where(given & known, values, 1.0).astype(np.float32)
    return torch.from_numpy(score), torch.from_numpy(weight)


def _numbers(table: pa.Table | pa.RecordBatch, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns a column with nulls replaced by 0, and where it is not null (bool)."""
    column = _column(table, name)
    known = column.is_valid().to_numpy(zero_copy_only=False)
    filled = column.fill_null(0) if column.null_count else column
    return filled.to_numpy(zero_copy_only=False), known


def _column(table: pa.Table | pa.RecordBatch, name: str) -> pa.Array:
    if name not in table.schema.names:
        raise RunError(f"column {name!r}: the training data lacks it; found {table.schema.names}")
    column = table[name]
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _check_range(name: str, values: np.ndarray, limit: float, *, including: bool = False) -> None:
    """Raises RunError unless all values are in [0, limit), or [0, limit] if `including`; NaN is out of range."""
    inside = (values >= 0) & ((values <= limit) if including else (values < limit))
    if not inside.all():
        found = values[~inside].flat[0]
        raise RunError(
            f"column {name!r}: {found} is outside its range, 0 to {limit:g}{'' if including else ' (excluded)'}; the "
            "labels were written with another attribute definition"
        )
