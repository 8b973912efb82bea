"""Published label and prediction runs that are read side by side: their scored attributes, and rows by number."""

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from faceattr.attributes import Attribute
from faceattr.config import StorageConfig
from faceattr.data.formats.parquet import decode_table
from faceattr.data.runs.commit import read_file
from faceattr.data.runs.run_attributes import Decision, read_attribute_set, read_decisions
from faceattr.data.runs.version import Manifest, RunRecord, read_manifest, read_record
from faceattr.data.sources.recentring import Recentring, measure_recentrings, moved_decisions
from faceattr.data.stores.addresses import resolve_address
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.open import open_store
from faceattr.data.stores.store import Store
from faceattr.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ScoredRun:
    """A published label or prediction run.

    Attributes:
        address: of the run folder.
        store: the run folder.
        record: the run, with the plan of its latest version.
        manifest: its latest published version.
        attributes: name -> attribute, of those with a score for every class.
        rules: name -> rule, of the derived attributes.
        decisions: name -> how its labels were made from scores, where that is not the default.
        verify: see `faceattr.data.runs.version.read_published`.
    """

    address: str
    store: Store
    record: RunRecord
    manifest: Manifest
    attributes: Mapping[str, Attribute]
    rules: Mapping[str, str]
    decisions: Mapping[str, Decision]
    verify: bool

    @property
    def num_rows(self) -> int:
        """Number of rows, rejected ones included."""
        return self.manifest.num_rows


def open_scored_run(address: str, storage: StorageConfig) -> ScoredRun:
    """Opens a published run.

    Raises:
        ConfigError: there is none.
    """
    store = open_store(resolve_address(address, "the run"), storage)
    record, manifest = read_record(store), read_manifest(store)
    if record is None or record.kind not in ("label", "prediction"):
        raise ConfigError(f"{address} holds no label or prediction run (no run.json of one); give the --output of one")
    if manifest is None:
        raise ConfigError(f"{address}: the run is not published yet; run its command again to finish it")
    found = read_attribute_set(record)
    return ScoredRun(
        address=address,
        store=store,
        record=manifest.settle(record),
        manifest=manifest,
        attributes={each.name: each for each in found.attributes if each.has_class_scores},
        rules={each.name: each.rule for each in found.derived},
        decisions=read_decisions(record, manifest),
        verify=storage.verify,
    )


class RowReader:
    """Reads ranges of a run's table, best in ascending order: the file that was read last is kept.

    A row's place in the table is its row number, unless a later version leaves rows out.

    Args:
        run: the run.
        columns: columns to read, as far as they exist; None for all.
    """

    def __init__(self, run: ScoredRun, columns: Sequence[str] | None = None) -> None:
        self._run = run
        self._columns = None if columns is None else list(columns)
        self._starts = [0, *itertools.accumulate(file.num_rows for file in run.manifest.files)]
        self._held: tuple[int, pa.Table] = (-1, pa.table({}))

    def read(self, rows: range) -> pa.Table:
        """Returns the rows at these places of the table, in order; fewer if the run ends before."""
        stop = min(rows.stop, self._run.num_rows)
        tables = []
        for place in range(bisect_right(self._starts, rows.start) - 1, bisect_left(self._starts, stop)):
            table, start = self._read_file(place), self._starts[place]
            first = max(rows.start, start)
            tables.append(table.slice(first - start, min(stop, self._starts[place + 1]) - first))
        return pa.concat_tables(tables) if tables else self._read_file(0).slice(0, 0)

    def tables(self) -> Iterator[pa.Table]:
        """Yields all rows, file by file."""
        for place in range(len(self._run.manifest.files)):
            yield self._read_file(place)

    def _read_file(self, place: int) -> pa.Table:
        if self._held[0] != place:
            file, store = self._run.manifest.files[place], self._run.store
            data = read_file(store, file) if self._run.verify else store.get(file.key)
            self._held = (place, decode_table(data, join_uri(store.uri, file.key), self._columns))
        return self._held[1]


def measure_run(run: ScoredRun, names: Collection[str]) -> dict[str, Recentring]:
    """Returns how the scores of these attributes are recentred, of those whose threshold is not 0.5.

    It reads the labels and scores of these attributes once, if there are any.
    """
    moved = moved_decisions(run.decisions, {name: run.attributes[name] for name in names})
    if not moved:
        return {}
    columns = [*moved, *(f"{name}_score" for name in moved)]
    return measure_recentrings(RowReader(run, columns).tables(), moved)
