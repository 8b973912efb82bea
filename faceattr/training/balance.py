"""Balanced sampling: every combination of classes is drawn equally often, as the UTKFace ViT did for gender and race.

A combination is a cell, numbered by its classes; ages are classed by decade. The attributes need not be learnt. Rows
with a missing or coarse label, or an age range over several decades, belong to no cell and are drawn as often as
without balancing.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.label_columns import AGE_LIMIT
from faceattr.errors import ConfigError

NO_CELL = -1
_MAX_CELLS = 1_000_000
_DECADE = 10


class ClassCombinations:
    """Combinations of the classes of some attributes.

    Attributes:
        columns: label columns that determine a row's cell.
        num_cells: number of combinations.
    """

    def __init__(self, attributes: AttributeSet, names: Sequence[str]) -> None:
        """Numbers the cells.

        Args:
            attributes: attributes of the data.
            names: attributes whose classes are combined.

        Raises:
            ConfigError: an attribute is missing, or there are too many combinations.
        """
        unknown = [name for name in names if name not in attributes.names]
        if unknown:
            raise ConfigError(f"--feed.balance: {unknown} are none of the data's attributes {list(attributes.names)}")
        self._attributes: list[Attribute] = [attributes[name] for name in names]
        self.columns = tuple(column for each in self._attributes for column in _columns_of(each))
        self._sizes = [
            math.ceil(AGE_LIMIT / _DECADE) if each.is_years else len(each.classes) for each in self._attributes
        ]
        self.num_cells = int(np.prod(self._sizes, dtype=np.float64))
        if self.num_cells > _MAX_CELLS:
            raise ConfigError(f"--feed.balance: {list(names)} have {self.num_cells:,} combinations of classes")

    def find(self, table: pa.Table) -> npt.NDArray[np.int64]:
        """Returns the cell of each row of a table with the label columns: int64 [n], NO_CELL if a label is unknown."""
        cells = np.zeros(len(table), np.int64)
        known = np.ones(len(table), bool)
        for attribute, size in zip(self._attributes, self._sizes, strict=True):
            found = _find_classes(table, attribute)
            known &= found != NO_CELL
            cells = cells * size + found
        return np.where(known, cells, NO_CELL)

    def count(self, table: pa.Table) -> npt.NDArray[np.int64]:
        """Returns the number of rows per cell, int64 [num_cells]."""
        cells = self.find(table)
        return np.bincount(cells[cells != NO_CELL], minlength=self.num_cells)


def _columns_of(attribute: Attribute) -> tuple[str, ...]:
    name = attribute.name
    return (f"{name}_low", f"{name}_high") if attribute.is_years else (name,)


def _find_classes(table: pa.Table, attribute: Attribute) -> npt.NDArray[np.int64]:
    """Returns the class, or the decade of an age, of each row: int64 [n], NO_CELL if it is unknown."""
    columns = [table[name].combine_chunks() for name in _columns_of(attribute)]
    known = columns[0].is_valid().to_numpy(zero_copy_only=False)
    first, *last = [column.fill_null(0).to_numpy(zero_copy_only=False) for column in columns]
    if not last:
        return np.where(known, first, NO_CELL).astype(np.int64)
    # Years [low, high): the last completed year is high - 1.
    low, high = first // _DECADE, (last[0] - 1) // _DECADE
    return np.where(known & (low == high), low, NO_CELL).astype(np.int64)


def weigh_cells(counts: npt.NDArray[np.int64], power: float = 1.0) -> npt.NDArray[np.float64]:
    """Returns the sampling weight of a row of each cell: mean 1 over the rows in a cell, 0 for empty cells.

    Args:
        counts: number of rows per cell.
        power: a row's weight falls with this power of its cell's count. 1 draws all cells equally often, 0.5 in
            proportion to the square root of their counts (Mahajan et al. 2018).
    """
    present = counts > 0
    weights = np.zeros(len(counts))
    drawn = (counts[present] ** (1 - power)).sum()
    weights[present] = counts.sum() / (drawn * counts[present] ** power)
    return weights


def weigh_rows(cells: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns the weight of each row, float64 [n], from its cell; 1 for rows without a cell."""
    return np.where(cells == NO_CELL, 1.0, weights[cells])
