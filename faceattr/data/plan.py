"""The plan: a run's frozen input list with dense row numbers, cut into shards by number.

A plan is written once, before anything else, and never changes: row r of a run is the same image for ever, so what is
done can be told from numbers alone. Parts are Parquet files of up to `PART_ROWS` rows; a shard is a fixed range of rows
that never crosses a part.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from faceattr.data.keys import RepeatedKeys
from faceattr.data.parquet import decode_table, encode_table
from faceattr.data.storage import Store
from faceattr.errors import ConfigError

PART_ROWS = 65_536
MIN_SHARD_ROWS = 256
# A run of any size has at most a few thousand shards, so that one listing tells what is done.
TARGET_SHARDS = 2_048

# Columns of every plan, in front of the carried ones. `source_row` is the row inside a packed Parquet file.
PLAN_COLUMNS = (
    pa.field("image_id", pa.string(), nullable=False),
    pa.field("uri", pa.string(), nullable=False),
    pa.field("num_bytes", pa.int64()),
    pa.field("etag", pa.string()),
    pa.field("source_row", pa.int64()),
)


@dataclass(frozen=True, kw_only=True)
class PlanPart:
    """One file of a plan.

    Attributes:
        key: key of the Parquet file in the run folder.
        first_row: number of its first row.
        num_rows: rows in it.
    """

    key: str
    first_row: int
    num_rows: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Where the frozen input list lies and how it is cut.

    Attributes:
        num_rows: images in the run.
        num_bytes: their size, as far as the listing told it.
        shard_size: rows in a shard; the last shard may have fewer.
        parts: the plan's files in row order.
    """

    num_rows: int
    num_bytes: int
    shard_size: int
    parts: tuple[PlanPart, ...]

    @property
    def num_shards(self) -> int:
        """Shards of the run."""
        return -(-self.num_rows // self.shard_size)

    def shard_range(self, shard: int) -> range:
        """Row numbers of a shard."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, self.num_rows))

    def part_shards(self, part: PlanPart) -> range:
        """Shards whose rows lie in a part."""
        return range(part.first_row // self.shard_size, -(-(part.first_row + part.num_rows) // self.shard_size))

    def to_json(self) -> dict[str, Any]:
        """Plain form for run.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Plan":
        """Inverse of to_json."""
        parts = tuple(PlanPart(**part) for part in value["parts"])
        return cls(**{**value, "parts": parts})


def choose_shard_size(num_rows: int) -> int:
    """Rows in a shard: a power of two between MIN_SHARD_ROWS and PART_ROWS that gives about TARGET_SHARDS at most."""
    size = MIN_SHARD_ROWS
    while size < PART_ROWS and size * TARGET_SHARDS < num_rows:
        size *= 2
    return size


def plan_schema(carried: Sequence[pa.Field] = ()) -> pa.Schema:
    """Schema of what `write_plan` takes: the plan's columns without `row`, then the carried ones."""
    return pa.schema([*PLAN_COLUMNS, *carried])


def write_plan(
    store: Store,
    tables: Iterable[pa.Table],
    *,
    limit: int | None = None,
    unique_by_source: bool = False,
    shard_size: int | None = None,
) -> Plan:
    """Numbers the rows and writes them; holds one part in memory.

    Part names carry a random word, so that an attempt that died half-way leaves files that no plan names.

    Args:
        store: the run folder.
        tables: rows in `plan_schema`, in the order that they will be numbered in.
        limit: stop after so many rows.
        shard_size: a power of two up to PART_ROWS; by default chosen by the number of rows.
        unique_by_source: the source itself cannot repeat a key (a listing), so nothing needs to be checked.

    Raises:
        ConfigError: an image_id stands twice, or there is no row.
    """
    attempt = uuid.uuid4().hex[:8]
    parts: list[PlanPart] = []
    num_rows = num_bytes = 0
    pending: list[pa.Table] = []
    with RepeatedKeys() as repeated:

        def flush() -> None:
            nonlocal num_rows, num_bytes
            table = pa.concat_tables(pending)
            pending.clear()
            if not unique_by_source:
                repeated.add(table["image_id"])
            num_bytes += int(np.nansum(table["num_bytes"].to_numpy().astype(np.float64)))
            rows = pa.array(np.arange(num_rows, num_rows + len(table)), pa.int64())
            part = PlanPart(key=f"plan/{attempt}-{len(parts):05d}.parquet", first_row=num_rows, num_rows=len(table))
            store.put(part.key, encode_table(table.add_column(0, pa.field("row", pa.int64(), nullable=False), rows)))
            parts.append(part)
            num_rows += len(table)

        for table in _sized(tables, PART_ROWS, limit):
            pending.append(table)
            if sum(map(len, pending)) == PART_ROWS:
                flush()
        if pending:
            flush()
        if num_rows == 0:
            raise ConfigError(
                "no image was found; check the address, and that names end in .jpg, .png, .webp or the like"
            )
        _refuse_repeated(store, parts, repeated)
    return Plan(
        num_rows=num_rows, num_bytes=num_bytes, shard_size=shard_size or choose_shard_size(num_rows), parts=tuple(parts)
    )


def _sized(tables: Iterable[pa.Table], size: int, limit: int | None) -> Iterable[pa.Table]:
    """Cuts tables so that running totals meet every multiple of `size`, and stops at `limit` rows."""
    total = 0
    for table in tables:
        rest = table
        while len(rest):
            room = size - total % size
            if limit is not None:
                room = min(room, limit - total)
            if room == 0:
                return
            yield rest.slice(0, room)
            total += min(room, len(rest))
            rest = rest.slice(room)


def _refuse_repeated(store: Store, parts: Sequence[PlanPart], index: RepeatedKeys) -> None:
    """Raises ConfigError naming real repeats; a hash that merely collided is let go by the second look."""
    hashes = index.hashes()
    if not hashes:
        return
    first_rows: dict[str, int] = {}
    found: list[str] = []
    for part in parts:
        table = read_part(store, part)
        for key, row in zip(table["image_id"].to_pylist(), table["row"].to_pylist(), strict=True):
            if index.hash(key) not in hashes:
                continue
            if key in first_rows:
                found.append(f"{key!r} (rows {first_rows[key]} and {row})")
            first_rows.setdefault(key, row)
    if found:
        shown = ", ".join(found[:5])
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise ConfigError(f"the manifest lists images twice: {shown}{more}; rows count from 0. Remove the repeats.")


def read_part(store: Store, part: PlanPart) -> pa.Table:
    """Rows of one part: `row`, then the columns of `plan_schema`."""
    return decode_table(store.get(part.key))


def read_shards(store: Store, plan: Plan, part: PlanPart, shards: np.ndarray) -> pa.Table:
    """Plan rows of those `shards` (int [n], any order) that lie in `part`."""
    table = read_part(store, part)
    wanted = np.isin(table["row"].to_numpy() // plan.shard_size, shards)
    return table.filter(pa.array(wanted))
