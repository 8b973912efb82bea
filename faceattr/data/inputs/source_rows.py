"""Where in its Parquet or tar file each image of a run is, for runs over images in such files."""

from bisect import bisect_right

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceattr.data.runs.plan import Plan, PlanPart, read_part
from faceattr.data.stores.store import Store


class SourceRows:
    """Places inside Parquet and tar files, which only the plan has. Keeps one part, as tables come in row order."""

    def __init__(self, store: Store, plan: Plan | None) -> None:
        """Reads nothing yet.

        Args:
            store: the run folder.
            plan: plan of a run whose input is one of `IN_FILES`; None if the images are separate objects.
        """
        self._store = store
        self._parts = () if plan is None else plan.parts
        self._held: tuple[PlanPart, np.ndarray] | None = None

    def of(self, rows: np.ndarray) -> pa.Array:
        """Returns `source_row` of plan rows in one part, int64 [n]; null for images that are separate objects."""
        if not self._parts or not len(rows):
            return pa.nulls(len(rows), pa.int64())
        part = self._parts[bisect_right([each.first_row for each in self._parts], int(rows[0])) - 1]
        if self._held is None or self._held[0] is not part:
            # Null in rows that were deleted, which no table has any more.
            self._held = (part, pc.fill_null(read_part(self._store, part)["source_row"], -1).to_numpy())
        return pa.array(self._held[1][rows - part.first_row], pa.int64())
