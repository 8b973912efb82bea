"""Committing: rows that arrive in any order become shards; each is written whole, once, by one conditional PUT.

Why a run is exactly-once: a shard's name follows from its number; it is put only when all its rows have arrived, in one
request that fails if the name exists; nothing is ever overwritten. So after any crash a shard either exists completely
or does not exist, and a listing tells which. The final proof is a count.

Nothing here depends on Ray, S3 or models: the store is passed in, so tests enumerate a crash at every one of its calls.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceattr.data.formats.integrity import REMEDY, check_whole, hash_bytes, hash_footer
from faceattr.data.formats.parquet import decode_table, encode_table, read_provenance
from faceattr.data.runs.plan import Plan
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.store import MissingObjectError, Store
from faceattr.data.table_checks import fit_schema
from faceattr.errors import RunError

OK = "ok"
_T = TypeVar("_T")
_R = TypeVar("_R")


def shard_key(folder: str, plan: Plan, shard: int) -> str:
    """Returns the key of a shard's file in a run folder; shards of a named section are in a folder with its name."""
    section = plan.section_of(shard).name
    return f"{folder}/{section}/{_shard_name(shard)}" if section else f"{folder}/{_shard_name(shard)}"


def _shard_name(shard: int) -> str:
    return f"shard-{shard:08d}.parquet"


def list_committed(store: Store, folder: str, plan: Plan) -> dict[int, str]:
    """Returns the committed shards below a folder: number to key."""
    found = {}
    for entry in store.list(f"{folder}/"):
        number = entry.key.rpartition("/shard-")[2].removesuffix(".parquet")
        shard = int(number) if number.isdigit() else -1
        if 0 <= shard < plan.num_shards and entry.key == shard_key(folder, plan, shard):
            found[shard] = entry.key
    return found


class ShardCommitter:
    """Keeps open shards in memory and commits each one as soon as its last row has arrived.

    Args:
        store: the run folder.
        folder: folder for the shards of this version.
        plan: the run's plan.
        schema: schema of the rows, with the provenance that identifies the run.
        committed: shards that are done; their rows are ignored.
        rows_of: returns the row numbers that a shard has, int64 [n], ascending; by default all of its range.
        kept_rows: returns the rows of a shard that a retry keeps, to be joined by the new ones.
    """

    def __init__(
        self,
        *,
        store: Store,
        folder: str,
        plan: Plan,
        schema: pa.Schema,
        committed: Collection[int],
        rows_of: Callable[[int], np.ndarray] | None = None,
        kept_rows: Callable[[int], pa.Table | None] = lambda shard: None,
    ) -> None:
        self._store = store
        self._folder = folder
        self._plan = plan
        self._schema = schema
        self._committed = set(committed)
        self._rows_of = rows_of or (lambda shard: _all_rows(plan, shard))
        self._kept_rows = kept_rows
        self._open: dict[int, _OpenShard] = {}

    def add(self, table: pa.Table) -> list[int]:
        """Accepts rows (schema of the run, any order, of any shards) and commits the shards that become complete.

        A row that has already arrived is ignored: an engine may deliver a retried block twice.

        Returns:
            Numbers of the shards that were committed by this call.
        """
        done = []
        shards = self._plan.shards_of(table["row"].to_numpy())
        for shard in np.unique(shards).tolist():
            if shard in self._committed:
                continue
            if shard not in self._open:
                self._open[shard] = _OpenShard(self._rows_of(shard))
                kept = self._kept_rows(shard)
                if kept is not None:
                    self._open[shard].add(kept)
            self._open[shard].add(table.filter(pa.array(shards == shard)).select(self._schema.names))
            if self._open[shard].complete:
                key = shard_key(self._folder, self._plan, shard)
                commit_shard(self._store, key, fit_schema(self._open.pop(shard).table(), self._schema, key))
                self._committed.add(shard)
                done.append(shard)
        return done

    @property
    def num_committed(self) -> int:
        """Number of shards committed so far, earlier sessions included."""
        return len(self._committed)

    def missing(self) -> dict[int, int]:
        """Returns the open shards and the number of rows that each still lacks."""
        return {shard: opened.num_missing for shard, opened in self._open.items()}


def commit_all(committer: ShardCommitter, tables: Iterable[pa.Table], *, on_rows: Callable[[pa.Table], None]) -> None:
    """Commits a stream of row tables to its end. Raises RunError if expected rows did not arrive."""
    for table in tables:
        on_rows(table)
        committer.add(table)
    missing = committer.missing()
    if missing:
        raise RunError(
            f"{sum(missing.values())} rows of {len(missing)} shards never arrived; what is committed stays, run the "
            "same command again to do the rest"
        )


class _OpenShard:
    """Rows of one shard that is not complete yet."""

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows
        self._seen = np.zeros(len(rows), bool)
        self._tables: list[pa.Table] = []

    def add(self, table: pa.Table) -> None:
        places = np.searchsorted(self._rows, table["row"].to_numpy())
        fresh = ~self._seen[places]
        # Of equal rows inside one table, only the first counts, too.
        fresh &= np.isin(np.arange(len(places)), np.unique(places, return_index=True)[1])
        self._seen[places[fresh]] = True
        self._tables.append(table if fresh.all() else table.filter(pa.array(fresh)))

    @property
    def num_missing(self) -> int:
        return int((~self._seen).sum())

    @property
    def complete(self) -> bool:
        return bool(self._seen.all())

    def table(self) -> pa.Table:
        return pa.concat_tables(self._tables).combine_chunks().sort_by("row")


def _all_rows(plan: Plan, shard: int) -> np.ndarray:
    rows = plan.shard_range(shard)
    return np.arange(rows.start, rows.stop)


def commit_shard(store: Store, key: str, rows: pa.Table) -> None:
    """Puts a complete, sorted shard. An existing one counts as success if it belongs to the same run.

    Raises:
        RunError: the name is used by a file of something else.
    """
    if store.put_if_absent(key, encode_table(rows)):
        return
    # Ours with a lost acknowledgement, or from a driver that was assumed dead. Either contains the same rows.
    existing = decode_table(store.get(key), key, columns=["row"])
    same_run = read_provenance(existing.schema).get("run_id") == read_provenance(rows.schema).get("run_id")
    if not same_run or not existing["row"].equals(rows["row"]):
        raise RunError(f"{key} exists and belongs to something else; use an empty output folder")


@dataclass(frozen=True, kw_only=True)
class CommittedFile:
    """One file of a published table, as the manifest lists it.

    Attributes:
        shard: number of the shard.
        key: key in the run folder.
        num_rows: rows, accepted and rejected.
        num_bad: rows whose status is not `ok`.
        num_bytes: size in bytes.
        sha256: sha256 of the whole file.
        footer_sha256: sha256 of its Parquet footer, for readers of single row groups; None in manifests of earlier
            versions.
    """

    shard: int
    key: str
    num_rows: int
    num_bad: int
    num_bytes: int
    sha256: str
    footer_sha256: str | None = None


def read_file(store: Store, file: CommittedFile) -> bytes:
    """Reads a whole published file. Raises RunError if it is missing or differs from the manifest."""
    where = join_uri(store.uri, file.key)
    try:
        data = store.get(file.key)
    except MissingObjectError as error:
        raise RunError(f"{where} is gone, though the run's manifest lists it; {REMEDY}") from error
    check_whole(data, where, num_bytes=file.num_bytes, sha256=file.sha256)
    return data


def check_shard(
    data: bytes, key: str, plan: Plan, shard: int, *, run_id: str, rows: np.ndarray | None = None
) -> tuple[CommittedFile, pa.Table]:
    """Returns a shard's entry for the manifest, and its rows.

    Until now only the page checksums protect a shard's content; from here on its hash does.

    Args:
        data: the file.
        key: its key, for errors.
        plan: the run's plan.
        shard: its number.
        run_id: id of the run, which the file must contain.
        rows: the row numbers that it must have, int64 [n], ascending; by default all of its range.

    Raises:
        RunError: rows are missing, repeated or out of place, or the file is damaged or belongs to another run.
    """
    try:
        table = decode_table(data, key)
    except RunError as error:
        raise RunError(f"{error}: delete it and run the same command again, which makes its rows again") from error
    if read_provenance(table.schema).get("run_id") != run_id:
        raise RunError(f"{key} belongs to another run; use an empty output folder")
    expected = _all_rows(plan, shard) if rows is None else rows
    if not np.array_equal(table["row"].to_numpy(), expected):
        some = "" if rows is None else f"{len(rows):,} of "
        raise RunError(f"{key}: expected each of {some}the rows {expected[0]} to {expected[-1]} once")
    num_bad = pc.sum(pc.not_equal(table["status"], OK)).as_py() if "status" in table.column_names else 0
    file = CommittedFile(
        shard=shard,
        key=key,
        num_rows=len(table),
        num_bad=num_bad or 0,
        num_bytes=len(data),
        sha256=hash_bytes(data),
        footer_sha256=hash_footer(data),
    )
    return file, table


# Checks shards, given as number to key, and yields for each, in any order, its entry and at least its small columns.
CheckShards = Callable[[Mapping[int, str]], Iterable[tuple[CommittedFile, pa.Table]]]


def verify_shards(
    store: Store,
    keys: dict[int, str],
    plan: Plan,
    *,
    run_id: str,
    observe: Callable[[pa.Table], None] = lambda table: None,
    rows_of: Callable[[int], np.ndarray] | None = None,
    check: CheckShards | None = None,
) -> list[CommittedFile]:
    """Reads every shard and verifies that every row of the version exists exactly once.

    Args:
        store: the run folder.
        keys: shard number to key.
        plan: the run's plan.
        run_id: id of the run, which every file must contain.
        observe: receives each shard's table, for statistics in the same pass.
        rows_of: returns the row numbers that a shard has; by default all of its range. A shard without any has no file.
        check: calls `check_shard` elsewhere; by default it is called here, in order.

    Raises:
        RunError: rows are missing, repeated or out of place, or a file belongs to another run.
    """
    wanted = [shard for shard in range(plan.num_shards) if rows_of is None or len(rows_of(shard))]
    lost = [shard for shard in wanted if shard not in keys]
    if lost:
        raise RunError(
            f"{len(lost)} of {len(wanted)} shards are missing, the first is {lost[0]}; run the command again"
        )

    def check_here(keys: Mapping[int, str]) -> Iterator[tuple[CommittedFile, pa.Table]]:
        for shard, data in read_ahead(lambda shard: store.get(keys[shard]), keys):
            rows = None if rows_of is None else rows_of(shard)
            yield check_shard(data, keys[shard], plan, shard, run_id=run_id, rows=rows)

    files: dict[int, CommittedFile] = {}
    for file, table in (check or check_here)({shard: keys[shard] for shard in wanted}):
        observe(table)
        files[file.shard] = file
    if len(files) != len(wanted):
        raise RunError(f"{len(wanted) - len(files)} of {len(wanted)} shards were not checked")
    return [files[shard] for shard in wanted]


def read_ahead(read: Callable[[_T], _R], items: Iterable[_T], *, depth: int = 16) -> Iterator[tuple[_T, _R]]:
    """Yields (item, read(item)) in order, with `depth` reads in flight, which bounds memory."""
    with ThreadPoolExecutor(depth) as pool:
        rest = iter(items)
        window: list[tuple[_T, Future[_R]]] = [(item, pool.submit(read, item)) for item in islice(rest, depth)]
        while window:
            item, future = window.pop(0)
            yield item, future.result()
            window += [(item, pool.submit(read, item)) for item in islice(rest, 1)]
