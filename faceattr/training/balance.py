"""Balanced sampling: every combination of classes is drawn equally often, as the UTKFace ViT did for gender and race.

A combination is a cell, numbered by its classes. Rows with a missing or coarse label belong to no cell and are drawn as
often as without balancing.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from faceattr.attributes import Attribute, AttributeSet
from faceattr.errors import ConfigError

NO_CELL = -1
_MAX_CELLS = 1_000_000


class ClassCombinations:
    """Combinations of the classes of some attributes.

    Attributes:
        columns: label columns that determine a row's cell.
        num_cells: number of combinations.
    """

    def __init__(self, attributes: AttributeSet, names: Sequence[str]) -> None:
        """Numbers the cells.

        Raises:
            ConfigError: an attribute is missing or is an age, or there are too many combinations.
        """
        unknown = [name for name in names if name not in attributes.names]
        if unknown:
            raise ConfigError(f"--feed.balance: {unknown} are none of the learnt attributes {list(attributes.names)}")
        chosen: list[Attribute] = [attributes[name] for name in names]
        ages = [each.name for each in chosen if not each.has_classes]
        if ages:
            raise ConfigError(f"--feed.balance: {ages} are ages, which have no classes; balance others")
        self.columns = tuple(names)
        self._sizes = [len(each.classes) for each in chosen]
        self.num_cells = int(np.prod(self._sizes, dtype=np.float64))
        if self.num_cells > _MAX_CELLS:
            raise ConfigError(f"--feed.balance: {list(names)} have {self.num_cells:,} combinations of classes")

    def find(self, table: pa.Table) -> npt.NDArray[np.int64]:
        """Returns the cell of each row of a table with the label columns: int64 [n], NO_CELL if a label is unknown."""
        cells = np.zeros(len(table), np.int64)
        known = np.ones(len(table), bool)
        for name, size in zip(self.columns, self._sizes, strict=True):
            column = table[name].combine_chunks()
            known &= column.is_valid().to_numpy(zero_copy_only=False)
            cells = cells * size + column.fill_null(0).to_numpy(zero_copy_only=False)
        return np.where(known, cells, NO_CELL)

    def count(self, table: pa.Table) -> npt.NDArray[np.int64]:
        """Returns the number of rows per cell, int64 [num_cells]."""
        cells = self.find(table)
        return np.bincount(cells[cells != NO_CELL], minlength=self.num_cells)


def weigh_cells(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Returns each cell's sampling weight for counts [cells]: mean 1 over the rows in a cell, 0 for empty cells."""
    present = counts > 0
    weights = np.zeros(len(counts))
    weights[present] = counts.sum() / (present.sum() * counts[present])
    return weights


def weigh_rows(cells: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns the weight of each row, float64 [n], from its cell; 1 for rows without a cell."""
    return np.where(cells == NO_CELL, 1.0, weights[cells])
