"""`faceattr delete-rows`: a run without some of its images, and without older files that hold them."""

from collections.abc import Collection
from dataclasses import dataclass, field

import tyro

from faceattr.config import StorageConfig
from faceattr.data.formats.integrity import hash_bytes
from faceattr.data.formats.parquet import decode_table
from faceattr.data.packed.reader import PACK_KIND
from faceattr.data.runs.changes.change import Change, find_deletion
from faceattr.data.runs.changes.deletion import begin_deletion, end_deletion
from faceattr.data.runs.changes.rewriting import rewrite_shards
from faceattr.data.runs.commit import read_file
from faceattr.data.runs.lease import drive
from faceattr.data.runs.version import Manifest, RunRecord, RunVersion, read_manifest, read_record
from faceattr.data.stores.addresses import resolve_address
from faceattr.data.stores.keys import join_uri, split_uri
from faceattr.data.stores.open import open_output, open_store, probe_store
from faceattr.data.stores.store import MissingObjectError, Store
from faceattr.errors import ConfigError
from faceattr.logs import say
from faceattr.reports.label import open_statistics, write_label_report


@dataclass(frozen=True, kw_only=True)
class DeleteRows:
    """Publishes a version of a label or prediction run without some images, and removes all older files of the run.

    No later resume, retry, update or change of thresholds brings the rows back: the run keeps salted hashes of the ids,
    not the ids. The same command finishes one that was stopped. Packed runs and models that were made from the run stay
    as they are; `faceattr lineage` lists them.
    """

    run: tyro.conf.Positional[str]
    """Run folder: a local path or s3://bucket/prefix."""
    ids: str | None = None
    """Text file with one image_id of the label table a line, in UTF-8. Without it, a deletion that was stopped is
    finished, and nothing else is done."""
    storage: StorageConfig = field(default_factory=StorageConfig)

    def __call__(self) -> int:
        """Deletes the rows."""
        store = open_output(self.run, self.storage)
        record = read_record(store)
        if record is not None and record.kind == PACK_KIND:
            raise ConfigError(
                f"{self.run} is a packed run, whose splits and counts depend on all of its rows: delete the rows from "
                "the label run that it was made from, pack that again into a new folder, and delete this one"
            )
        if record is None or record.kind not in ("label", "prediction") or read_manifest(store) is None:
            raise ConfigError(f"{self.run}: expected a published label or prediction run; found none there")
        ids, sha256 = (None, "") if self.ids is None else _read_ids(self.ids, self.storage)
        probe_store(store)
        with drive(store):
            begun = find_deletion(store)
            if begun is None and ids is None:
                raise ConfigError(f"--ids: {self.run} has no deletion that was stopped; give the file with the ids")
            if begun is not None:
                say(f"finishing the deletion that was begun at {begun.facts['begun']}")
                say(_delete(store, record, begun))
            if ids is not None:
                change = begin_deletion(store, record, _published(store), ids, request_sha256=sha256)
                say(_describe_nothing(store, ids) if change is None else _delete(store, record, change))
        return 0


def _delete(store: Store, record: RunRecord, change: Change) -> str:
    """Does the rest of a deletion; returns what the user reads."""
    manifest = _published(store)
    if manifest.version < change.version:
        first = manifest.files[0]
        schema = decode_table(read_file(store, first), join_uri(store.uri, first.key)).schema
        version = RunVersion(store, record, schema, change=change)
        rewrite_shards(version)
        statistics = open_statistics(record) if record.kind == "label" else None
        manifest = version.verify([] if statistics is None else [statistics.observe])
        version.publish(manifest)
        if statistics is not None:
            write_label_report(store, version.record, manifest, statistics)
    num_removed = end_deletion(store, record, change, manifest)
    facts = change.facts
    return "\n".join(
        [
            manifest.summary,
            f"deleted {facts['num_rows']:,} rows of {facts['num_ids']:,} ids; {facts['num_unknown']:,} ids were not in "
            "the run, and are withheld from it too",
            f"removed {num_removed:,} older files; packed runs, models, exports and backups may still hold the images: "
            f"faceattr lineage {store.uri}",
        ]
    )


def _published(store: Store) -> Manifest:
    manifest = read_manifest(store)
    if manifest is None:
        raise ConfigError(f"{store.uri}: no version is published")
    return manifest


def _describe_nothing(store: Store, ids: Collection[str]) -> str:
    return f"nothing to do: {store.uri} withholds all of these {len(ids):,} ids already"


def _read_ids(address: str, storage: StorageConfig) -> tuple[frozenset[str], str]:
    """Returns the ids of a file, and its sha256."""
    folder, name = split_uri(resolve_address(address, "--ids"))
    try:
        data = open_store(folder, storage).get(name)
    except MissingObjectError as error:
        raise ConfigError(f"--ids {address}: there is no such file") from error
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"--ids {address}: expected text in UTF-8, one image_id a line: {error}") from error
    ids = frozenset(line.removesuffix("\r") for line in lines) - {""}
    if not ids:
        raise ConfigError(f"--ids {address}: the file has no line with an image_id")
    return ids, hash_bytes(data)
