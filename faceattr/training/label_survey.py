"""Survey of all labels before a training starts: number of labels per class, and the row groups of the rows.

Only label columns are read, once, and the result is stored in the model folder.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from faceattr.attributes import AttributeSet
from faceattr.data.formats.json_files import decode_versioned, encode_versioned
from faceattr.data.packed.reader import PackedData
from faceattr.errors import RunError
from faceattr.training.balance import ClassCombinations
from faceattr.training.losses.class_weights import LabelTotals
from faceattr.training.row_order import Indices, Window, cut_windows
from faceattr.training.targets import read_targets


@dataclass(frozen=True, kw_only=True)
class Stretches:
    """Row groups with at least one usable row, in the order of the files.

    Attributes:
        file: int64 [n], index of each row group's file in its split.
        group: int64 [n], index of the row group in its file.
        num_rows: int64 [n], number of its usable rows.
        num_bytes: int64 [n], size of its encoded images; None in surveys of older runs, which did not store it, so that
            these runs keep their order when they resume.
    """

    file: Indices
    group: Indices
    num_rows: Indices
    num_bytes: Indices | None = None

    @property
    def total_rows(self) -> int:
        """Total number of usable rows."""
        return int(self.num_rows.sum())

    def windows(self, *, seed: int, epoch: int, window_rows: int) -> list[Window]:
        """Returns the windows of an epoch, bounded in rows and bytes; see `cut_windows`."""
        return cut_windows(self.num_rows, seed=seed, epoch=epoch, window_rows=window_rows, num_bytes=self.num_bytes)


@dataclass(frozen=True, kw_only=True)
class FileSurvey:
    """Survey of one file.

    Attributes:
        num_rows: number of usable rows of each row group.
        num_bytes: size of the encoded images of each row group.
        counts: attribute -> number of labels by class, as `LabelTotals` counts them.
        cells: number of rows per combination of classes if sampling is balanced, else empty.
    """

    num_rows: list[int]
    num_bytes: list[int]
    counts: dict[str, list[float]]
    cells: list[int]


@dataclass(frozen=True, kw_only=True)
class SplitSurvey:
    """Survey of one split.

    Attributes:
        stretches: its row groups.
        counts: see `FileSurvey`.
        cells: see `FileSurvey`.
    """

    stretches: Stretches
    counts: dict[str, list[float]]
    cells: list[int] = field(default_factory=list)

    @property
    def labelled(self) -> set[str]:
        """Names of the attributes with at least one label."""
        return {name for name, counts in self.counts.items() if sum(counts) > 0}


def label_columns(data: PackedData, attributes: AttributeSet) -> list[str]:
    """Returns the names of the attributes' label columns, in the data's order."""
    wanted = {
        each
        for name in attributes.names
        for each in (name, *(f"{name}_{part}" for part in ("mask", "low", "high", "score", "mass")))
    }
    return [name for name in data.label_columns if name in wanted]


def survey_file(
    data: PackedData, split: str, place: int, *, attributes: AttributeSet, balance: Sequence[str]
) -> tuple[FileSurvey, pa.Table]:
    """Counts the labels of one file.

    Args:
        data: packed runs.
        split: split of the file.
        place: index of the file in its split.
        attributes: attributes to train.
        balance: attributes whose combinations of classes are counted.

    Returns:
        The survey, and the rows themselves: image_id, group, and the label columns.

    Raises:
        RunError: a label is outside its range, or the file is damaged.
        StorageError: the file cannot be read.
    """
    file = data.splits[split][place]
    columns = ["image_id", "group", *label_columns(data, attributes)]
    cells = ClassCombinations(data.attributes, balance) if balance else None
    more = [] if cells is None else [name for name in cells.columns if name not in columns]
    sized = list(data.iter_sized_groups(file, [*columns, *more]))
    groups = [group for group, _ in sized]
    table = pa.concat_tables(groups)
    totals = LabelTotals(attributes)
    try:
        totals.add(read_targets(table, attributes))
    except RunError as error:
        raise RunError(f"{file.uri}: {error}") from error
    found = FileSurvey(
        num_rows=[len(group) for group in groups],
        num_bytes=[num_bytes for _, num_bytes in sized],
        counts={name: counts.tolist() for name, counts in totals.counts.items()},
        cells=[] if cells is None else cells.count(table).tolist(),
    )
    return found, table.select(columns)


def join_surveys(files: Iterable[FileSurvey]) -> SplitSurvey:
    """Combines the surveys of a split's files, in their order."""
    surveys = list(files)
    num_rows = [np.array(each.num_rows, np.int64) for each in surveys]
    file = np.concatenate([np.full(len(rows), place, np.int64) for place, rows in enumerate(num_rows)])
    group = np.concatenate([np.arange(len(rows), dtype=np.int64) for rows in num_rows])
    kept = np.concatenate(num_rows) > 0
    num_bytes = np.concatenate([np.array(each.num_bytes, np.int64) for each in surveys])
    names = surveys[0].counts
    return SplitSurvey(
        stretches=Stretches(
            file=file[kept], group=group[kept], num_rows=np.concatenate(num_rows)[kept], num_bytes=num_bytes[kept]
        ),
        counts={name: np.sum([each.counts[name] for each in surveys], axis=0).tolist() for name in names},
        cells=[int(count) for count in np.sum([each.cells for each in surveys], axis=0)],
    )


def encode_surveys(surveys: dict[str, SplitSurvey]) -> bytes:
    """Encodes split -> survey as JSON."""
    return encode_versioned(
        {
            split: {
                "file": each.stretches.file.tolist(),
                "group": each.stretches.group.tolist(),
                "num_rows": each.stretches.num_rows.tolist(),
                "num_bytes": None if each.stretches.num_bytes is None else each.stretches.num_bytes.tolist(),
                "counts": each.counts,
                "cells": each.cells,
            }
            for split, each in surveys.items()
        }
    )


def decode_surveys(data: bytes, where: str = "a survey") -> dict[str, SplitSurvey]:
    """Inverse of `encode_surveys`; `where` names the file in errors."""
    return {
        split: SplitSurvey(
            stretches=Stretches(
                **{name: np.array(each[name], np.int64) for name in ("file", "group", "num_rows")},
                num_bytes=None if each.get("num_bytes") is None else np.array(each["num_bytes"], np.int64),
            ),
            counts=each["counts"],
            cells=each["cells"],
        )
        for split, each in decode_versioned(data, where).items()
    }
