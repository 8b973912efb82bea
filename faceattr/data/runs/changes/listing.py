"""Compares a new listing of a run's images with the rows that the run has.

    new         the key is not in the table
    changed     the key is there, and the listing has another size or etag, or other carried columns
    gone        a row whose key is no longer listed
    withheld    the key was deleted on request: it is left out, as if it were not listed

Both sides are divided into parts by a hash of the key, and each part is joined in memory (a Grace hash join), so that
memory does not depend on the number of images.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceattr.data.formats.repeated_keys import RepeatedKeys
from faceattr.data.formats.spilled_tables import SpilledTables
from faceattr.data.runs.changes.extent import RemovedRows, WithheldIds
from faceattr.data.runs.plan import Plan, plan_schema, read_part
from faceattr.data.stores.store import Store
from faceattr.errors import ConfigError

COMPARED_ROWS = 2**18
# Each part is an open file.
_MOST_PARTS = 256
GONE, CHANGED = "gone", "changed"
# Rows of the table that the next version leaves out, for people and programs.
LEFT_OUT_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)


@dataclass
class ListingCounts:
    """Images by what became of them."""

    new: int = 0
    changed: int = 0
    gone: int = 0
    unchanged: int = 0
    withheld: int = 0


@dataclass
class ListingChanges:
    """The differences of a listing and a run; a context manager, which owns files. `compare` fills it.

    Attributes:
        carried: schema of the carried columns.
        counts: how many images are new, changed, gone and so on.
        left_out: rows that the table leaves out from now on (`LEFT_OUT_SCHEMA`).
    """

    carried: pa.Schema
    counts: ListingCounts = field(default_factory=ListingCounts)
    left_out: list[pa.Table] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._schema = plan_schema(list(self.carried))
        numbered = pa.schema([pa.field("row", pa.int64(), nullable=False), *self._schema])
        self._known = SpilledTables(numbered, "faceattr-known-")
        self._listed = SpilledTables(self._schema, "faceattr-listed-")
        self._added = SpilledTables(self._schema, "faceattr-added-")
        self._num_parts = 1

    def compare(
        self, store: Store, plan: Plan, removed: RemovedRows, listed: Iterable[pa.Table], withheld: WithheldIds
    ) -> None:
        """Reads both sides once.

        Args:
            store: the run folder.
            plan: the plan of the published version.
            removed: rows that it leaves out.
            listed: the new listing, rows in `plan_schema`.
            withheld: ids that are never taken in again.

        Raises:
            ConfigError: an image_id is listed twice.
        """
        self._num_parts = max(1, min(_MOST_PARTS, -(-plan.num_rows // COMPARED_ROWS)))
        for part in plan.parts:
            rows = _fitting(read_part(store, part), self._known.schema)
            self._divide(rows.filter(pa.array(removed.live_mask(rows["row"].to_numpy()))), self._known)
        for table in listed:
            held = withheld.mask(table["image_id"])
            self.counts.withheld += int(held.sum())
            self._divide(table.filter(pa.array(~held)), self._listed)
        for number in range(self._num_parts):
            self._compare_part(str(number))

    def added(self) -> Iterator[pa.Table]:
        """Yields the rows to plan: new and changed images, in the order of the listing, part by part."""
        for number in range(self._num_parts):
            yield self._added.read(str(number))

    def _divide(self, table: pa.Table, parts: SpilledTables) -> None:
        if self._num_parts == 1:
            parts.append("0", table)
            return
        hashes = (RepeatedKeys.hash(each) % self._num_parts for each in table["image_id"].to_pylist())
        numbers = np.fromiter(hashes, np.int64, len(table))
        for number in np.unique(numbers).tolist():
            parts.append(str(number), table.filter(pa.array(numbers == number)))

    def _compare_part(self, part: str) -> None:
        known, listed = self._known.read(part), self._listed.read(part)
        names = listed["image_id"].combine_chunks()
        _refuse_repeated(names)
        place = pc.index_in(names, value_set=known["image_id"].combine_chunks())
        is_new = np.asarray(place.is_null())
        matched = known.take(place.drop_null())
        differs = np.zeros(len(listed), bool)
        differs[~is_new] = _differs(matched, listed.filter(pa.array(~is_new)), self.carried.names)
        is_gone = np.asarray(pc.invert(pc.is_in(known["image_id"], value_set=names)).combine_chunks(), bool)
        self.left_out += [
            _left_out(matched.filter(pa.array(differs[~is_new])), CHANGED),
            _left_out(known.filter(pa.array(is_gone)), GONE),
        ]
        self._added.append(part, listed.filter(pa.array(is_new | differs)))
        self.counts.new += int(is_new.sum())
        self.counts.changed += int(differs.sum())
        self.counts.gone += int(is_gone.sum())
        self.counts.unchanged += int((~is_new & ~differs).sum())

    def __enter__(self) -> "ListingChanges":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for spilled in (self._known, self._listed, self._added):
            spilled.__exit__(kind, error, trace)


def _fitting(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Returns rows of a plan in a schema; earlier versions of faceattr wrote plans without `etag`."""
    columns = [rows[each.name] if each.name in rows.column_names else pa.nulls(len(rows), each.type) for each in schema]
    return pa.table(columns, schema=schema)


def _differs(known: pa.Table, listed: pa.Table, carried: Sequence[str]) -> np.ndarray:
    """Returns bool [n]: another size or etag, where both sides have one, or another value of a carried column."""
    found = np.zeros(len(known), bool)
    for name in ("num_bytes", "etag"):
        found |= np.asarray(pc.fill_null(pc.not_equal(known[name], listed[name]), False).combine_chunks(), bool)
    if carried:
        ours, theirs = (map(repr, table.select(list(carried)).to_pylist()) for table in (known, listed))
        found |= np.fromiter((one != other for one, other in zip(ours, theirs, strict=True)), bool, len(known))
    return found


def _left_out(rows: pa.Table, reason: str) -> pa.Table:
    columns = [rows[name] for name in ("row", "image_id", "uri")]
    return pa.table([*columns, pa.array([reason] * len(rows), pa.string())], schema=LEFT_OUT_SCHEMA)


def _refuse_repeated(names: pa.Array) -> None:
    counts = pc.value_counts(names)
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        shown = ", ".join(map(repr, repeated.to_pylist()[:5]))
        raise ConfigError(f"the input lists images twice: {shown}; remove the repeats")
