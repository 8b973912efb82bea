"""The plan: a run's frozen input list with consecutive row numbers, divided into shards by number.

A plan is written once, before anything else, and never changes: row r of a run is always the same image, so progress
can be told from numbers alone. Parts are Parquet files of up to `PART_ROWS` rows; a shard is a fixed range of rows
that never crosses a part. A plan may be divided into named sections (the splits of a packed run): a section starts a
new part and a new shard, so no shard belongs to two sections.
"""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from faceattr.data.formats.integrity import REMEDY, check_whole, hash_bytes
from faceattr.data.formats.json_files import decode_fields
from faceattr.data.formats.parquet import decode_table, encode_table
from faceattr.data.formats.repeated_keys import RepeatedKeys
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.store import MissingObjectError, Store
from faceattr.errors import ConfigError, RunError

PART_ROWS = 65_536
MIN_SHARD_ROWS = 256
# A run of any size has at most a few thousand shards, so that one listing tells the progress.
TARGET_SHARDS = 2_048

# Kinds of input whose images are parts of files.
IN_FILES = frozenset(["packed", "tar"])

# Columns of every plan, before the carried ones. `source_row` is the place inside a file: the row in a packed Parquet
# file, the byte of the member's header in a tar file.
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
        num_rows: number of its rows.
        sha256: sha256 of the file; None in plans of earlier versions.
    """

    key: str
    first_row: int
    num_rows: int
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class PlanSection:
    """A named range of a plan's rows, up to the next section. It is not empty.

    Attributes:
        name: folder of its shards; empty for a plan that is not divided, and for what updates appended to it.
        first_row: number of its first row.
        shard_size: rows per shard, where that is not the plan's.
    """

    name: str
    first_row: int
    shard_size: int | None = None


UNDIVIDED = (PlanSection(name="", first_row=0),)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The location of the frozen input list, and how it is divided.

    Attributes:
        num_rows: images in the run.
        num_bytes: their total size, as far as the listing has it.
        shard_size: rows per shard; the last shard of a section may have fewer.
        parts: the plan's files in row order.
        sections: sections in row order; the first one starts with row 0.
    """

    num_rows: int
    num_bytes: int
    shard_size: int
    parts: tuple[PlanPart, ...]
    sections: tuple[PlanSection, ...] = UNDIVIDED

    @property
    def num_shards(self) -> int:
        """Number of shards of the run."""
        return int(self._first_shards()[-1])

    def shard_range(self, shard: int) -> range:
        """Returns the row numbers of a shard."""
        starts, shards = self._section_starts(), self._first_shards()
        section = int(np.searchsorted(shards, shard, side="right")) - 1
        size = int(self._shard_sizes()[section])
        first = int(starts[section]) + (shard - int(shards[section])) * size
        return range(first, min(first + size, int(starts[section + 1])))

    def shards_of(self, rows: np.ndarray) -> np.ndarray:
        """Returns the shards of row numbers, int64 [n]."""
        starts = self._section_starts()
        sections = np.searchsorted(starts, rows, side="right") - 1
        shards = self._first_shards()[sections] + (rows - starts[sections]) // self._shard_sizes()[sections]
        return np.asarray(shards, np.int64)

    def section_of(self, shard: int) -> PlanSection:
        """Returns the section that contains a shard."""
        return self.sections[int(np.searchsorted(self._first_shards(), shard, side="right")) - 1]

    def part_shards(self, part: PlanPart) -> range:
        """Returns the shards whose rows are in a part."""
        first, last = self.shards_of(np.array([part.first_row, part.first_row + part.num_rows - 1])).tolist()
        return range(first, last + 1)

    def parts_with(self, shards: np.ndarray) -> list[int]:
        """Returns indices of the parts that contain rows of `shards` (int [n], ascending)."""
        found = []
        for index, part in enumerate(self.parts):
            of_part = self.part_shards(part)
            first, end = np.searchsorted(shards, [of_part.start, of_part.stop])
            if first < end:
                found.append(index)
        return found

    def _section_starts(self) -> np.ndarray:
        """Returns the first row of each section, and the end of the last one."""
        return np.array([*(section.first_row for section in self.sections), self.num_rows], np.int64)

    def _first_shards(self) -> np.ndarray:
        """Returns the first shard of each section, and the end of the last one."""
        counts = -(-np.diff(self._section_starts()) // self._shard_sizes())
        return np.concatenate([[0], np.cumsum(counts)])

    def _shard_sizes(self) -> np.ndarray:
        """Returns the rows per shard of each section."""
        return np.array([section.shard_size or self.shard_size for section in self.sections], np.int64)

    def to_json(self) -> dict[str, Any]:
        """Returns the plain form for run.json; a plan that is not divided has no key `sections`."""
        value = asdict(self)
        if self.sections == UNDIVIDED:
            del value["sections"]
            return value
        # Earlier versions of faceattr refuse a key that they do not know.
        value["sections"] = [{key: each for key, each in one.items() if each is not None} for one in value["sections"]]
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Plan":
        """Inverse of to_json.

        Raises:
            RunError: the plan is damaged.
        """
        plan = decode_fields(cls, value, "the plan in run.json")
        parts = tuple(decode_fields(PlanPart, part, "a part of the plan in run.json") for part in plan.parts)
        if "sections" not in value:
            return replace(plan, parts=parts)
        where = "a section of the plan in run.json"
        sections = tuple(decode_fields(PlanSection, section, where) for section in plan.sections)
        return replace(plan, parts=parts, sections=sections)


def choose_shard_size(num_rows: int, *, row_bytes: float = 0.0, max_bytes: int = 0) -> int:
    """Returns rows per shard: a power of two from MIN_SHARD_ROWS to PART_ROWS that gives about TARGET_SHARDS at most.

    Args:
        num_rows: rows of the run.
        row_bytes: bytes of a row, if rows contain images.
        max_bytes: largest size of a shard then; with large images it has fewer rows than MIN_SHARD_ROWS.
    """
    size = MIN_SHARD_ROWS
    while size < PART_ROWS and size * TARGET_SHARDS < num_rows:
        size *= 2
    while size > 1 and size * row_bytes > max_bytes > 0:
        size //= 2
    return size


def plan_schema(carried: Sequence[pa.Field] = ()) -> pa.Schema:
    """Returns the schema of `write_plan`'s input: the plan's columns without `row`, then the carried ones."""
    return pa.schema([*PLAN_COLUMNS, *carried])


def write_plan(
    store: Store,
    tables: Iterable[pa.Table],
    *,
    limit: int | None = None,
    unique_by_source: bool = False,
    shard_size: int | None = None,
) -> Plan:
    """Numbers the rows and writes them; keeps one part in memory.

    Part names contain a random word, so that files of a failed attempt are named by no plan.

    Args:
        store: the run folder.
        tables: rows in `plan_schema`, in the order in which they are numbered.
        limit: largest number of rows.
        shard_size: a power of two up to PART_ROWS; by default chosen by the number of rows.
        unique_by_source: whether the source itself cannot repeat a key (a listing), so nothing needs to be checked.

    Raises:
        ConfigError: an image_id occurs twice, or there is no row.
    """
    sections = [("", _up_to(tables, limit))]
    return write_sectioned_plan(store, sections, unique_by_source=unique_by_source, shard_size=shard_size)


def write_sectioned_plan(
    store: Store,
    sections: Iterable[tuple[str, Iterable[pa.Table]]],
    *,
    unique_by_source: bool = False,
    shard_size: int | None = None,
) -> Plan:
    """As `write_plan`, for rows in named sections; a section without rows is left out.

    Raises:
        ConfigError: an image_id occurs twice, or there is no row.
    """
    with RepeatedKeys() as repeated:
        writer = _PlanWriter(store, None if unique_by_source else repeated)
        for name, tables in sections:
            writer.begin_section(name)
            for table in tables:
                writer.add(table)
        plan = writer.finish(shard_size)
        _refuse_repeated(store, plan.parts, repeated)
    return plan


def append_to_plan(store: Store, plan: Plan, tables: Iterable[pa.Table]) -> Plan:
    """Writes further rows at the end of a plan, as a section with shards of its own; the given plan's files stay.

    Args:
        store: the run folder.
        plan: the plan so far.
        tables: rows in `plan_schema`, whose keys the caller has compared with the keys there; perhaps none.
    """
    writer = _PlanWriter(store, None, first_row=plan.num_rows)
    writer.begin_section("")
    for table in tables:
        writer.add(table)
    if not writer.num_added:
        return plan
    added = writer.finish(None)
    (section,) = added.sections
    return replace(
        plan,
        num_rows=added.num_rows,
        num_bytes=plan.num_bytes + added.num_bytes,
        parts=(*plan.parts, *added.parts),
        sections=(*plan.sections, replace(section, shard_size=choose_shard_size(writer.num_added))),
    )


class _PlanWriter:
    """Numbers rows and writes full parts. Keeps one part in memory."""

    def __init__(self, store: Store, keys: RepeatedKeys | None, *, first_row: int = 0) -> None:
        self._store = store
        self._keys = keys
        self._attempt = uuid.uuid4().hex[:8]
        self._parts: list[PlanPart] = []
        self._sections: list[PlanSection] = []
        self._pending: list[pa.Table] = []
        self._first_row = first_row
        self._num_rows = first_row
        self._num_bytes = 0

    @property
    def num_added(self) -> int:
        return self._num_rows - self._first_row + sum(map(len, self._pending))

    def begin_section(self, name: str) -> None:
        self._flush()
        if self._sections and self._sections[-1].first_row == self._num_rows:
            self._sections.pop()  # the section had no rows
        self._sections.append(PlanSection(name=name, first_row=self._num_rows))

    def add(self, table: pa.Table) -> None:
        while len(table):
            fitting = table.slice(0, PART_ROWS - sum(map(len, self._pending)))
            self._pending.append(fitting)
            if sum(map(len, self._pending)) == PART_ROWS:
                self._flush()
            table = table.slice(len(fitting))

    def _flush(self) -> None:
        if not self._pending:
            return
        table = pa.concat_tables(self._pending)
        self._pending.clear()
        if self._keys is not None:
            self._keys.add(table["image_id"])
        self._num_bytes += int(np.nansum(table["num_bytes"].to_numpy().astype(np.float64)))
        rows = pa.array(np.arange(self._num_rows, self._num_rows + len(table)), pa.int64())
        key = f"plan/{self._attempt}-{len(self._parts):05d}.parquet"
        numbered = table.add_column(0, pa.field("row", pa.int64(), nullable=False), rows)
        data = encode_table(numbered)
        self._store.put(key, data)
        part = PlanPart(key=key, first_row=self._num_rows, num_rows=len(table), sha256=hash_bytes(data))
        self._parts.append(part)
        self._num_rows += len(table)

    def finish(self, shard_size: int | None) -> Plan:
        self.begin_section("")
        sections = tuple(self._sections[:-1])
        if self._num_rows == 0:
            raise ConfigError(
                "no image was found; check the address, and that names end in .jpg, .png, .webp or the like"
            )
        return Plan(
            num_rows=self._num_rows,
            num_bytes=self._num_bytes,
            shard_size=shard_size or choose_shard_size(self._num_rows),
            parts=tuple(self._parts),
            sections=sections,
        )


def _up_to(tables: Iterable[pa.Table], limit: int | None) -> Iterator[pa.Table]:
    """Yields the tables up to `limit` rows; no further table is requested."""
    total = 0
    for table in tables:
        if limit is None or total + len(table) < limit:
            total += len(table)
            yield table
            continue
        yield table.slice(0, limit - total)
        return


def _refuse_repeated(store: Store, parts: Sequence[PlanPart], index: RepeatedKeys) -> None:
    """Raises ConfigError for real repeats; a mere hash collision is dismissed by comparing the keys."""
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
        raise ConfigError(f"the input lists images twice: {shown}{more}; rows count from 0. Remove the repeats.")


def read_part(store: Store, part: PlanPart) -> pa.Table:
    """Reads the rows of one part: `row`, then the columns of `plan_schema`.

    Raises:
        RunError: the file is missing, or differs from what was written.
    """
    where = join_uri(store.uri, part.key)
    try:
        data = store.get(part.key)
    except MissingObjectError as error:
        raise RunError(f"{where} is gone, which the plan in run.json names; {REMEDY}") from error
    check_whole(data, where, num_bytes=None, sha256=part.sha256)
    return decode_table(data, where)


def read_shards(store: Store, plan: Plan, part: PlanPart, shards: np.ndarray) -> pa.Table:
    """Reads the plan rows in `part` that belong to `shards` (int [n], any order)."""
    table = read_part(store, part)
    wanted = np.isin(plan.shards_of(table["row"].to_numpy()), shards)
    return table.filter(pa.array(wanted))
