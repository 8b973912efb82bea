"""The rows of a run in the order of another run over the same images.

Rows belong together by image_id. Two runs over the same input have the same rows in the same order: they are read file
by file, and memory holds one file of each. Otherwise the rows are joined on local disk (a Grace hash join): both runs
are divided into parts by a hash of image_id, each part is joined in memory, and what is found is divided again, by the
row number that it gets. Memory then holds one part: `JOIN_ROWS` rows, or one of `MOST_PARTS` parts of a larger run.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceattr.data.formats.repeated_keys import RepeatedKeys
from faceattr.data.formats.spilled_tables import SpilledTables
from faceattr.data.joined.runs import RowReader, ScoredRun

JOIN_ROWS = 65_536
# Each part is an open file.
MOST_PARTS = 256
_KEYS = ("row", "image_id", "sha256")
_PLACE = "place"
_MOST_EXAMPLES = 3


@dataclass
class ImageDifferences:
    """How the images of two runs differ.

    Attributes:
        num_only_first: images that the first run alone has.
        num_only_second: images that the second run alone has.
        num_changed: images of both with another sha256; an image without one, since it was rejected, is none of them.
        only_first: up to three image ids of each, as examples.
        only_second: likewise.
        changed: likewise.
    """

    num_only_first: int = 0
    num_only_second: int = 0
    num_changed: int = 0
    only_first: list[str] = field(default_factory=list)
    only_second: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    def observe(self, first: pa.Table, second: pa.Table) -> None:
        """Adds rows of the first run, and the rows of the second one that belong to them."""
        lacking = second["image_id"].is_null()
        self.num_only_first += _note(first["image_id"].filter(lacking), self.only_first)
        changed = pc.fill_null(pc.not_equal(first["sha256"], second["sha256"]), False)
        self.num_changed += _note(first["image_id"].filter(changed), self.changed)

    def observe_extra(self, second: pa.Table) -> None:
        """Adds rows of the second run that the first one does not have."""
        self.num_only_second += _note(second["image_id"], self.only_second)


def name_examples(count: int, examples: Sequence[str]) -> str:
    """Returns image ids for an error or a report, with dots if there are more."""
    return ", ".join([*map(repr, examples), *(["..."] if count > len(examples) else [])])


def _note(names: pa.ChunkedArray, examples: list[str]) -> int:
    examples += names.slice(0, _MOST_EXAMPLES - len(examples)).to_pylist()
    return len(names)


class JoinedRows:
    """Rows of a second run, to be read by the row numbers of the first. A context manager: it may own files.

    Args:
        first: the run whose order counts.
        second: the other run.
        columns: columns of the second run that are read, in addition to row, image_id and sha256.
        part_rows: rows of a part, if the runs have different orders.

    Attributes:
        same_order: whether both runs have the same image ids in the same order.
    """

    def __init__(
        self, first: ScoredRun, second: ScoredRun, columns: Sequence[str] = (), *, part_rows: int = JOIN_ROWS
    ) -> None:
        self._first = first
        self._second = second
        self._columns = list(dict.fromkeys([*_KEYS, *columns]))
        self._stack = contextlib.ExitStack()
        self._reader = RowReader(second, self._columns)
        self._spilled: SpilledTables | None = None
        self._held: tuple[int, pa.Table] = (-1, pa.table({}))
        self._num_parts = min(MOST_PARTS, -(-max(first.num_rows, second.num_rows) // part_rows))
        self._rows_of_part = _chunk_rows(first, -(-first.num_rows // self._num_parts))
        self.same_order = self._has_same_order()
        if not self.same_order:
            self._join()

    def read(self, rows: range) -> pa.Table:
        """Returns the second run's rows for these rows of the first one, best in ascending order.

        A row whose image the second run does not have is null in all columns.
        """
        if self._spilled is None:
            return self._reader.read(rows)
        tables = []
        for part in range(rows.start // self._rows_of_part, -(-rows.stop // self._rows_of_part)):
            start = part * self._rows_of_part
            wanted = np.arange(max(rows.start, start), min(rows.stop, start + self._rows_of_part))
            table = self._read_part(part)
            place = pc.index_in(pa.array(wanted), value_set=table[_PLACE].combine_chunks())
            tables.append(table.drop_columns(_PLACE).take(place))
        return pa.concat_tables(tables)

    def extra(self) -> Iterator[pa.Table]:
        """Yields the second run's rows whose image the first one does not have."""
        if self._spilled is not None:
            yield self._spilled.read("extra").drop_columns(_PLACE)

    def _has_same_order(self) -> bool:
        if self._first.num_rows != self._second.num_rows:
            return False
        readers = [RowReader(run, ["image_id"]) for run in (self._first, self._second)]
        return all(
            readers[0].read(rows)["image_id"].equals(readers[1].read(rows)["image_id"]) for rows in chunks(self._first)
        )

    def _join(self) -> None:
        schema = self._reader.read(range(1)).schema
        nullable = pa.schema([each.with_nullable(True) for each in schema])
        placed = nullable.append(pa.field(_PLACE, pa.int64()))
        self._spilled = self._stack.enter_context(SpilledTables(placed, "faceattr-join-"))
        with (
            SpilledTables(pa.schema([(_PLACE, pa.int64()), ("image_id", pa.string())]), "faceattr-join-") as ours,
            SpilledTables(nullable, "faceattr-join-") as theirs,
        ):
            names = RowReader(self._first, ["image_id"])
            for rows in chunks(self._first):
                # Where a version leaves rows out, a row's number is not its place in the table.
                place = pa.array(np.arange(rows.start, rows.stop), pa.int64())
                self._divide(names.read(rows).add_column(0, _PLACE, place), ours)
            for rows in chunks(self._second):
                self._divide(self._reader.read(rows), theirs)
            for part in range(self._num_parts):
                self._join_part(ours.read(str(part)), theirs.read(str(part)), self._spilled)

    def _divide(self, table: pa.Table, parts: SpilledTables) -> None:
        hashes = (RepeatedKeys.hash(each) % self._num_parts for each in table["image_id"].to_pylist())
        numbers = np.fromiter(hashes, np.int64, len(table))
        for part in np.unique(numbers).tolist():
            parts.append(str(part), table.filter(pa.array(numbers == part)).cast(parts.schema))

    def _join_part(self, ours: pa.Table, theirs: pa.Table, spilled: SpilledTables) -> None:
        place = pc.index_in(theirs["image_id"], value_set=ours["image_id"].combine_chunks())
        theirs = theirs.append_column(_PLACE, ours[_PLACE].take(place))
        spilled.append("extra", theirs.filter(theirs[_PLACE].is_null()))
        found = theirs.filter(theirs[_PLACE].is_valid())
        parts = found[_PLACE].to_numpy() // self._rows_of_part
        for part in np.unique(parts).tolist():
            spilled.append(str(part), found.filter(pa.array(parts == part)))

    def _read_part(self, part: int) -> pa.Table:
        assert self._spilled is not None
        if self._held[0] != part:
            self._held = (part, self._spilled.read(str(part)))
        return self._held[1]

    def __enter__(self) -> "JoinedRows":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def chunks(run: ScoredRun) -> Iterator[range]:
    """Yields the rows of a run as ranges of whole shards."""
    size = _chunk_rows(run, JOIN_ROWS)
    for start in range(0, run.num_rows, size):
        yield range(start, min(start + size, run.num_rows))


def _chunk_rows(run: ScoredRun, least: int) -> int:
    """Returns a number of rows of at least `least` that is a whole number of shards."""
    size = run.record.plan.shard_size
    return max(1, -(-least // size)) * size


def compare_images(first: ScoredRun, joined: JoinedRows) -> ImageDifferences:
    """Reads the keys of both runs once, and returns how their images differ."""
    found = ImageDifferences()
    reader = RowReader(first, _KEYS)
    for rows in chunks(first):
        found.observe(reader.read(rows), joined.read(rows))
    for table in joined.extra():
        found.observe_extra(table)
    return found
