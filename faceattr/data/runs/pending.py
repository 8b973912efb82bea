"""The work of a session: the rows of the shards that are not committed, or in a retry the rejected rows."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceattr.data.formats.parquet import decode_table
from faceattr.data.runs.commit import OK, CommittedFile, read_file
from faceattr.data.runs.plan import Plan
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.store import Store


@dataclass(frozen=True, kw_only=True)
class PendingShards:
    """The work of a session; picklable.

    Attributes:
        plan: the run's plan.
        pending: int64 [n], shards that are not committed, ascending.
        redo_of: for a retry, pending shard to the published file whose rejected rows are processed again; else empty.
    """

    plan: Plan
    pending: np.ndarray
    redo_of: Mapping[int, CommittedFile]

    @property
    def num_rows(self) -> int:
        """Rows of the pending shards."""
        return sum(len(self.plan.shard_range(shard)) for shard in self.pending.tolist())

    def rows_to_do(self, store: Store, plan_rows: pa.Table) -> pa.Table:
        """Returns the plan rows that are to be processed: in a retry, those with an error status."""
        if not self.redo_of:
            return plan_rows
        shards = np.unique(self.plan.shards_of(plan_rows["row"].to_numpy()))
        bad = [np.empty(0, np.int64)] + [
            table.filter(pc.not_equal(table["status"], OK))["row"].to_numpy()
            for table in (self._read_base(store, shard, ["row", "status"]) for shard in shards.tolist())
        ]
        return plan_rows.filter(pa.array(np.isin(plan_rows["row"].to_numpy(), np.concatenate(bad))))

    def kept_rows(self, store: Store, shard: int, columns: list[str]) -> pa.Table | None:
        """Returns, in a retry, the rows of a shard that are kept."""
        if shard not in self.redo_of:
            return None
        table = self._read_base(store, shard)
        return table.filter(pc.equal(table["status"], OK)).select(columns)

    def _read_base(self, store: Store, shard: int, columns: list[str] | None = None) -> pa.Table:
        file = self.redo_of[shard]
        return decode_table(read_file(store, file), join_uri(store.uri, file.key), columns)
