"""The same images tomorrow: a version of a published run with the images that are new or changed, without those gone.

    update-v2.json          what changes, frozen before any work: the plan with its new rows, the rows that are left out
    plan/*.parquet          the new rows, behind the earlier ones
    left-out-v2-*.parquet   row, image_id, uri, reason (gone, changed) of the rows that this version leaves out
    labels-v2-<hash>/       shards of the new rows, and shards that lost rows; all other shards stay where they are

An image counts as changed if the listing has another size or etag than the plan, or other carried columns.
"""

import logging
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict

import pyarrow as pa

from faceattr.data.formats.integrity import hash_bytes
from faceattr.data.formats.parquet import encode_table
from faceattr.data.inputs.image_input import ImageInput
from faceattr.data.runs.changes.change import UPDATE, Change, begin_change, read_change, update_key
from faceattr.data.runs.changes.extent import Extent, RemovedRows, read_removed, read_withheld, write_removed
from faceattr.data.runs.changes.listing import ListingChanges
from faceattr.data.runs.plan import append_to_plan
from faceattr.data.runs.version import Manifest, RunRecord, read_manifest
from faceattr.data.stores.store import Store
from faceattr.errors import ConfigError, RunError

logger = logging.getLogger(__name__)


def find_updates(store: Store, record: RunRecord, open_images: Callable[[], ImageInput]) -> Iterator[Change]:
    """Yields the update that an earlier command began, if any, then a new one, if a new listing differs.

    The version of each must be published before the next one is asked for.

    Args:
        store: the run folder.
        record: the run, which has a published version.
        open_images: begins a new listing of its images.

    Raises:
        ConfigError: the listing cannot be compared with the run, or lists none of its images.
    """
    base = _read_base(store)
    begun = read_change(store, update_key(base.version + 1))
    if begun is not None:
        yield begun
        base = _read_base(store)
    change = _begin_update(store, record, base, open_images())
    if change is not None:
        yield change


def _read_base(store: Store) -> Manifest:
    manifest = read_manifest(store)
    if manifest is None:
        raise RunError(f"{store.uri}: no version is published, though one was; restore _manifest.json")
    return manifest


def _begin_update(store: Store, record: RunRecord, base: Manifest, images: ImageInput) -> Change | None:
    """Compares a listing with a version, and freezes what changes; None if nothing does."""
    where = f"--update: {store.uri}"
    if images.kind == "packed":
        raise ConfigError(
            f"{where} is a run over Parquet files that contain images, in which a changed image cannot be seen; label "
            "the new files as a run of their own"
        )
    if images.kind != record.source["kind"] or images.root != record.source["root"]:
        there = f"{record.source['kind']} below {record.source['root']}"
        raise ConfigError(f"{where} has images of a {there}; found a {images.kind} below {images.root} now")
    if not images.carried.equals(record.carried_schema):
        raise ConfigError(
            f"{where} carries the columns {record.carried_schema.names}; the manifest has {images.carried.names} now, "
            "or other types. Label it as a run of its own"
        )
    extent = base.extent or Extent(plan=record.plan)
    removed = read_removed(store, extent)
    logger.info("update listing images=%s kind=%s", images.root, images.kind)
    with ListingChanges(images.carried) as changes:
        changes.compare(store, extent.plan, removed, images.tables, read_withheld(store, extent))
        counts = changes.counts
        logger.info("update %s", " ".join(f"{name}={count}" for name, count in asdict(counts).items()))
        if not (counts.new or counts.changed or counts.gone):
            return None
        if not (counts.changed or counts.unchanged):
            raise ConfigError(f"{where}: not one of its images is listed any more; is --images {images.root} right?")
        plan = append_to_plan(store, extent.plan, changes.added())
        left_out = pa.concat_tables(changes.left_out)
    hashes = {}
    if len(left_out):
        key = f"left-out-v{base.version + 1}-{uuid.uuid4().hex[:8]}.parquet"
        data = encode_table(left_out)
        store.put(key, data)
        hashes[key] = hash_bytes(data)
    rows = RemovedRows(pa.concat_arrays([pa.array(removed.rows), left_out["row"].combine_chunks()]).to_numpy())
    facts = {"kind": UPDATE, **asdict(counts)}
    if images.files is not None:
        facts["files"] = images.files.to_json()
    return begin_change(
        store,
        Change(
            key=update_key(base.version + 1),
            version=base.version + 1,
            extent=Extent(plan=plan, removed=write_removed(store, rows), withheld=extent.withheld),
            hashes=hashes,
            facts=facts,
        ),
    )
