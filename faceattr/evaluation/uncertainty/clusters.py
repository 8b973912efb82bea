"""Clusters of rows that are not independent: the photos of one person, the copies of one image.

A cluster is what the split keeps together (`faceattr.data.packed.splits`): the rows of one `group`, or, if the group
is unknown, the rows of equal bytes. Intervals resample clusters, not rows: ten photos of a person say little more than
one.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class Resampling:
    """Independent units behind the intervals of an attribute.

    Attributes:
        num_clusters: number of clusters, or of rows if all are independent.
        num_rows: number of labelled rows.
    """

    num_clusters: int
    num_rows: int

    @property
    def by(self) -> str:
        """`group` or `row`."""
        return "group" if self.num_clusters < self.num_rows else "row"

    def __str__(self) -> str:
        if self.by == "group":
            return f"resampled by group: {self.num_clusters:,} groups of {self.num_rows:,} rows"
        return f"taken as independent: {self.num_rows:,}, of which no two share a group"


def read_clusters(table: pa.Table) -> np.ndarray | None:
    """Returns the cluster of each row of a scored table, int64 [N], or None if every row is its own cluster.

    Args:
        table: table with the columns `group` and `sha256`, or one of them, or neither. Equal groups of two packed runs
            are the same cluster; as two clusters, the same person could count twice.
    """
    keys = pa.chunked_array([pa.nulls(len(table), pa.string())])
    for name in ("sha256", "group"):
        if name in table.column_names:
            named = pc.binary_join_element_wise(name, table[name].cast(pa.string()), ":")
            keys = pc.coalesce(named, keys)
    codes = keys.combine_chunks().dictionary_encode().indices
    known = codes.is_valid().to_numpy(zero_copy_only=False)
    clusters = codes.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    # A row without any of this information is a cluster of its own.
    clusters[~known] = len(table) + np.flatnonzero(~known)
    return clusters if len(np.unique(clusters)) < len(table) else None


def number_clusters(clusters: np.ndarray | None, num_rows: int) -> np.ndarray:
    """Renumbers clusters, int64 [n], from 0 without gaps; independent rows become 0 to n - 1."""
    if clusters is None:
        return np.arange(num_rows)
    return np.unique(clusters, return_inverse=True)[1].reshape(-1)
