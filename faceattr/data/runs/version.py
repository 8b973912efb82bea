"""A run folder: started, worked on shard by shard, verified, published. The same for every job that makes a table.

    run.json                    what the run is: config, fingerprint, plan, versions. Written after the plan's parts.
    plan/*.parquet              the frozen input list
    <kind>s/shard-*.parquet     rows, as they are committed (`packed/split=*/shard-*.parquet` in a packed run)
    _manifest.json              last: the proof that every row exists once, and the files to read; then _SUCCESS, empty
    <kind>s-v2/, _manifest-v2.json
                                a later version: rows with an error status were processed again, or the labels were
                                made by other thresholds
    update-v2.json, deletion-v2-*.json
                                a later version with other rows; see `faceattr.data.runs.changes`

Nothing in it is overwritten, except the lease, reports and _SUCCESS. Only a deletion removes files.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from faceattr.data.formats.integrity import hash_bytes
from faceattr.data.formats.json_files import damage_named, decode_fields, decode_object
from faceattr.data.formats.json_text import encode_json
from faceattr.data.formats.parquet import decode_schema, decode_table, with_provenance
from faceattr.data.runs.changes.change import Change
from faceattr.data.runs.changes.extent import Extent, read_removed
from faceattr.data.runs.commit import (
    CheckShards,
    CommittedFile,
    ShardCommitter,
    list_committed,
    read_file,
    verify_shards,
)
from faceattr.data.runs.pending import PendingShards
from faceattr.data.runs.plan import Plan
from faceattr.data.stores.bounded_reads import read_objects
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.store import MissingObjectError, Store
from faceattr.errors import ConfigError, RunError

RUN_SCHEMA_VERSION = 1
_MANIFEST_KEY = re.compile(r"_manifest(?:-v([0-9]+))?\.json")
RUN_KEY = "run.json"
SUCCESS_KEY = "_SUCCESS"


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The content of run.json.

    Attributes:
        run_id: random id, in the metadata of every file of the run.
        kind: job that made it, for example `label`.
        fingerprint: everything that decides the rows; the same command must find the same fingerprint.
        config: the resolved config of the first start.
        plan: the frozen input.
        source: where the plan's images are and how they are read, as recorded by the job that made the plan.
        carried: Arrow schema of the carried manifest columns, as hex of its IPC form.
        versions: package versions at the start of the run.
        notes: facts that a reader should know, such as the reason for sensitive questions.
    """

    run_id: str
    kind: str
    fingerprint: dict[str, Any]
    config: dict[str, Any]
    plan: Plan
    source: dict[str, Any]
    carried: str
    versions: dict[str, str]
    notes: dict[str, Any]

    @property
    def carried_schema(self) -> pa.Schema:
        """Schema of the carried columns."""
        return decode_schema(self.carried)

    def encode(self) -> bytes:
        """Returns the bytes of run.json."""
        value = {**asdict(self), "plan": self.plan.to_json(), "schema_version": RUN_SCHEMA_VERSION}
        return encode_json(value, indent=1).encode()


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of a published version.

    Attributes:
        run_id: id of the run.
        version: 1, or more after retries.
        num_rows: number of images.
        status_counts: rows by status.
        files: files to read, in row order.
        hashes: sha256 of the other files that readers rely on, by key; empty in manifests of earlier versions.
        decisions: attribute -> threshold and abstain band of the labels, where they differ from run.json; see
            `faceattr.data.runs.run_attributes.Decision`.
        extent: which rows there are, if they are not simply all rows of the plan in run.json.
        change: what an update or a deletion changed to make this version; empty for other versions.
    """

    run_id: str
    version: int
    num_rows: int
    status_counts: dict[str, int]
    files: tuple[CommittedFile, ...]
    hashes: dict[str, str] = field(default_factory=dict)
    decisions: dict[str, Any] = field(default_factory=dict)
    extent: Extent | None = None
    change: dict[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The first line of what a user reads of a published version."""
        rows = f"{self.num_rows:,} row{'' if self.num_rows == 1 else 's'}"
        files = f"{len(self.files):,} file{'' if len(self.files) == 1 else 's'}"
        return f"published version {self.version}: {rows} in {files}"

    def encode(self) -> bytes:
        """Returns the bytes of the manifest."""
        value = {**asdict(self), "schema_version": RUN_SCHEMA_VERSION}
        if self.extent is not None:
            value["extent"] = self.extent.to_json()
        # Earlier versions of faceattr refuse a key that they do not know.
        for name in [name for name in ("decisions", "extent", "change") if not value[name]]:
            del value[name]
        return encode_json(value, indent=1).encode()

    @property
    def key(self) -> str:
        """Key of the manifest in the run folder."""
        return _manifest_key(self.version)

    def settle(self, record: RunRecord) -> RunRecord:
        """Returns the run's record with the plan of this version, which an update may have continued."""
        return record if self.extent is None else replace(record, plan=self.extent.plan)


def read_record(store: Store) -> RunRecord | None:
    """Returns the run in a folder, or None if there is none.

    Raises:
        ConfigError: it was written by a later version of this code.
        RunError: it is damaged.
    """
    value = _read_json(store, RUN_KEY)
    return None if value is None else decode_record(value, join_uri(store.uri, RUN_KEY))


def decode_record(value: dict[str, Any], where: str) -> RunRecord:
    """Returns the record of a run from the values of run.json; `where` is named in errors."""
    record = decode_fields(RunRecord, value, where)
    with damage_named(where):
        _ = record.carried_schema
        return replace(record, plan=Plan.from_json(value["plan"]))


def read_manifest(store: Store) -> Manifest | None:
    """Returns the latest published version, or None.

    Raises:
        ConfigError: it was written by a later version of this code.
        RunError: it is damaged.
    """
    matches = (_MANIFEST_KEY.fullmatch(entry.key) for entry in store.list("_manifest"))  # may also list others' copies
    versions = [int(match[1] or 1) for match in matches if match]
    if not versions:
        return None
    value = _read_json(store, _manifest_key(max(versions)))
    if value is None:
        raise RunError(f"{_manifest_key(max(versions))} was listed but cannot be read")
    where = join_uri(store.uri, _manifest_key(max(versions)))
    manifest = decode_fields(Manifest, value, where)
    files = tuple(decode_fields(CommittedFile, file, where) for file in manifest.files)
    extent = Extent.from_json(value["extent"], where) if "extent" in value else None
    return replace(manifest, files=files, extent=extent)


def read_published(store: Store, columns: list[str] | None = None, *, verify: bool = True) -> Iterator[pa.Table]:
    """Yields tables of the latest published version, file by file in row order.

    Args:
        store: the run folder.
        columns: columns to read, as far as they exist; default: all.
        verify: whether each file is compared with the manifest's size and sha256.

    Raises:
        ConfigError: nothing is published here.
        RunError: a file is missing, damaged, or not the one that was published.
    """
    manifest = read_manifest(store)
    if manifest is None:
        raise ConfigError(f"{store.uri} holds no published run (no _manifest.json); finish the run first")
    files = {file.key: file for file in manifest.files}
    sized = ((file.key, file.num_bytes) for file in manifest.files)  # files of packed runs contain images
    read = (lambda key: read_file(store, files[key])) if verify else store.get
    for key, data in zip(files, read_objects(read, sized), strict=True):
        yield decode_table(data, join_uri(store.uri, key), columns)


def _read_json(store: Store, key: str) -> dict[str, Any] | None:
    """Reads a JSON object and removes its `schema_version`, which must be ours; None if there is no such file."""
    try:
        data = store.get(key)
    except MissingObjectError:
        return None
    where = join_uri(store.uri, key)
    value = decode_object(data, where)
    found = value.pop("schema_version", None)
    if found != RUN_SCHEMA_VERSION:
        raise ConfigError(f"{where} has schema version {found!r}; this code reads {RUN_SCHEMA_VERSION}")
    return value


def _manifest_key(version: int) -> str:
    return "_manifest.json" if version == 1 else f"_manifest-v{version}.json"


class RunVersion:
    """One version of a run's table: version 1, or one that continues a published version.

    Attributes:
        record: the run, with the plan of this version.
        removed: rows of the plan that the table leaves out.
        rewritten: shards of the base version, by number, that are written again without the rows that are left out.
    """

    def __init__(
        self,
        store: Store,
        record: RunRecord,
        schema: pa.Schema,
        *,
        retry_failed: bool = False,
        decisions: Mapping[str, Any] | None = None,
        change: Change | None = None,
        folder: str | None = None,
    ) -> None:
        """Decides which version this session works on.

        Args:
            store: the run folder.
            record: the run.
            schema: schema of the rows.
            retry_failed: start or resume a retry, once a version is published.
            decisions: start or resume a version with these decisions; see `Manifest`. One must be published.
            change: start or resume the version that it makes. The version before must be published.
            folder: folder of the shards; by default the plural of the run's kind.
        """
        self.store = store
        self.published = read_manifest(store)
        self.version = 1
        self.base: Manifest | None = None  # the version whose rows this one keeps or labels again
        self._redo: dict[int, CommittedFile] = {}
        self.rewritten: dict[int, CommittedFile] = {}
        self.decisions: dict[str, Any] = {}  # of new rows, see `Manifest`
        self._change = change
        self._extent: Extent | None = None
        if self.published is not None:
            self.version = self.published.version
            self._extent = self.published.extent
            if change is not None:
                self._continue(self.published, self.published.decisions)
                self._extent = change.extent
            elif retry_failed and any(file.num_bad for file in self.published.files):
                # The list of shards depends on the base version only, so a second attempt finds the same.
                self._redo = {file.shard: file for file in self.published.files if file.num_bad}
                self._continue(self.published, self.published.decisions)
            elif decisions is not None:
                self._redo = {file.shard: file for file in self.published.files}
                self._continue(self.published, {**self.published.decisions, **decisions})
        self._num_base_shards = (record if self.base is None else self.base.settle(record)).plan.num_shards
        self.removed = read_removed(store, self._extent)
        self.record = record if self._extent is None else replace(record, plan=self._extent.plan)
        if change is not None and self.base is not None:
            self.rewritten = {
                file.shard: file for file in self.base.files if 0 < len(self._live_rows(file.shard)) < file.num_rows
            }
        provenance = {
            "schema_version": RUN_SCHEMA_VERSION,
            "run_id": record.run_id,
            "version": self.version,
            "fingerprint": record.fingerprint,
        }
        self.schema = with_provenance(schema, provenance)
        self.folder = (folder or f"{record.kind}s") + ("" if self.version == 1 else f"-v{self.version}")
        # A retry, a change, or other thresholds may have begun the same version: their shards must not mix.
        if change is not None:
            self.folder += f"-{change.suffix}"
        elif decisions is not None:
            self.folder += f"-{hash_bytes(encode_json(self.decisions).encode())[:8]}"

    def _continue(self, base: Manifest, decisions: dict[str, Any]) -> None:
        self.version = base.version + 1
        self.base = base
        self.decisions = decisions
        self.published = None

    @property
    def finished(self) -> bool:
        """Whether this version is already published."""
        return self.published is not None

    @property
    def num_rows(self) -> int:
        """Rows of the table: all rows of the plan but the ones that are left out."""
        return self.record.plan.num_rows - len(self.removed)

    @property
    def own_shards(self) -> list[int]:
        """The shards that this version's own folder has once it is complete; files of the others are the base's."""
        if self._redo:
            return list(self._redo)
        return [*self.rewritten, *range(self._num_base_shards if self.base else 0, self.record.plan.num_shards)]

    @property
    def kept_files(self) -> list[CommittedFile]:
        """Files of the base version that this one refers to."""
        files, own = (() if self.base is None else self.base.files), set(self.own_shards)
        return [file for file in files if file.shard not in own and len(self._live_rows(file.shard))]

    def _live_rows(self, shard: int) -> np.ndarray:
        return self.removed.live(self.record.plan.shard_range(shard))

    @property
    def _rows_of(self) -> Callable[[int], np.ndarray] | None:
        return self._live_rows if len(self.removed) else None

    def work(self) -> PendingShards:
        """Returns the remaining work for the model, from one listing."""
        plan = self.record.plan
        committed = list_committed(self.store, self.folder, plan)
        wanted = (shard for shard in self.own_shards if shard not in self.rewritten)
        pending = np.array([shard for shard in wanted if shard not in committed], np.int64)
        return PendingShards(plan=plan, pending=pending, redo_of=self._redo)

    def committer(self, work: PendingShards) -> ShardCommitter:
        """Returns a committer for this session."""
        pending = set(work.pending.tolist())
        return ShardCommitter(
            store=self.store,
            folder=self.folder,
            plan=self.record.plan,
            schema=self.schema,
            committed={shard for shard in range(self.record.plan.num_shards) if shard not in pending},
            rows_of=self._rows_of,
            kept_rows=lambda shard: work.kept_rows(self.store, shard, self.schema.names),
        )

    def verify(
        self, observers: Sequence[Callable[[pa.Table], None]] = (), *, check: CheckShards | None = None
    ) -> Manifest:
        """Verifies that every row exists once; publishes nothing yet. Raises RunError if one does not.

        Args:
            observers: receive every shard's table.
            check: see `verify_shards`.
        """
        plan, change = self.record.plan, self._change
        keys = list_committed(self.store, self.folder, plan)
        if self.base:
            keys = {file.shard: file.key for file in self.base.files} | keys
        counts: dict[str, int] = {}

        def count(table: pa.Table) -> None:
            for entry in table["status"].value_counts().to_pylist():
                counts[entry["values"]] = counts.get(entry["values"], 0) + entry["counts"]
            for observe in observers:
                observe(table)

        files = verify_shards(
            self.store, keys, plan, run_id=self.record.run_id, observe=count, rows_of=self._rows_of, check=check
        )
        return Manifest(
            run_id=self.record.run_id,
            version=self.version,
            num_rows=sum(file.num_rows for file in files),
            status_counts=dict(sorted(counts.items())),
            files=tuple(files),
            hashes={} if change is None else dict(change.hashes),
            decisions=self.decisions,
            extent=self._extent,
            change={} if change is None else dict(change.facts),
        )

    def publish(self, manifest: Manifest) -> None:
        """Writes the manifest: from now on readers see this version."""
        if not self.store.put_if_absent(manifest.key, manifest.encode()):
            there = read_manifest(self.store)
            if there != manifest:
                raise RunError(f"{manifest.key} exists and says something else; use an empty output folder")
        self.published = manifest
        self.mark_published()

    def mark_published(self) -> None:
        """Writes an empty file for schedulers, after each manifest. Nothing of ours reads it, so it decides nothing."""
        self.store.put(SUCCESS_KEY, b"")
