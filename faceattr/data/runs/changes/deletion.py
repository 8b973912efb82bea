"""Rows that are deleted on request: a version without them, and no file of the run folder that still names them.

    deletion-v3-1f0c9a2b.json   what is deleted, frozen before any work; removed last
    plan/*.parquet              parts of the plan in which the rows are blank: their numbers stay, nothing else does
    plan/withheld-*.json        a salt and salted hashes of the ids, so that no update takes them in again
    deletions/v3.json           when, how many, and the sha256 of the request; written when all old files are gone

After the version is published, every older file of the run is removed: older versions, reports, lists of rows, parts
of the plan that were replaced, and what interrupted attempts left. run.json stays, which names no image.
"""

import re
import time
import uuid
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceattr.data.formats.integrity import hash_bytes
from faceattr.data.formats.json_files import decode_versioned, encode_versioned
from faceattr.data.formats.parquet import encode_table
from faceattr.data.runs.changes.change import DELETION, Change, begin_change
from faceattr.data.runs.changes.extent import (
    Extent,
    RemovedRows,
    read_removed,
    read_withheld,
    write_removed,
    write_withheld,
)
from faceattr.data.runs.plan import Plan, PlanPart, read_part
from faceattr.data.runs.version import Manifest, RunRecord
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.store import Store
from faceattr.errors import ConfigError, RunError

RECORDS_FOLDER = "deletions/"
# What a run writes and a later version may replace; everything else in the folder is left alone.
_OWN_FILES = (
    r"plan/.*|_manifest(-v\d+)?\.json|report(-v\d+)?\.html|left-out-v\d+-[0-9a-f]+\.parquet|update-v\d+\.json|"
    r"{kind}s(-v\d+)?(-[0-9a-f]+)?/.*"
)


def begin_deletion(
    store: Store, record: RunRecord, base: Manifest, ids: Collection[str], *, request_sha256: str
) -> Change | None:
    """Freezes what is deleted; None if no row of the run has such an id and all of them are withheld already.

    Args:
        store: the run folder.
        record: the run.
        base: its published version.
        ids: image ids. One that the run does not have is withheld from later updates all the same.
        request_sha256: sha256 of the file with the ids.

    Raises:
        ConfigError: no row would stay.
    """
    extent = base.extent or Extent(plan=record.plan)
    removed, withheld = read_removed(store, extent), read_withheld(store, extent)
    more = withheld.add(ids)
    if len(more) == len(withheld):
        return None
    plan, rows, names = _blank(store, extent.plan, ids)
    deleted = RemovedRows(np.concatenate([removed.rows, rows]))
    num_rows = len(deleted) - len(removed)
    if num_rows == base.num_rows:
        raise ConfigError(f"{store.uri}: these are all of its rows; delete the folder instead")
    facts: dict[str, Any] = {
        "kind": DELETION,
        "num_ids": len(ids),
        "num_unknown": len(set(ids)) - len(names),
        "num_rows": num_rows,
        "request_sha256": request_sha256,
        "begun": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    change = Change(
        key=f"{DELETION}-v{base.version + 1}-{request_sha256[:8]}.json",
        version=base.version + 1,
        extent=Extent(plan=plan, removed=write_removed(store, deleted), withheld=write_withheld(store, more)),
        hashes={},
        facts=facts,
    )
    return begin_change(store, change)


def end_deletion(store: Store, record: RunRecord, change: Change, manifest: Manifest) -> int:
    """Removes every older file of the run, records the deletion, and returns the number of files that were removed.

    May be repeated: a deletion that was killed here is ended by the next call.

    Args:
        store: the run folder.
        record: the run.
        change: the deletion.
        manifest: the published version, which the deletion made.

    Raises:
        RunError: another driver published this version; the deletion is given up.
    """
    if manifest.extent is None or manifest.extent.withheld != change.extent.withheld:
        store.delete(change.key)
        raise RunError(f"{store.uri}: another driver published version {manifest.version}; run the same command again")
    doomed = list_older_files(store, record, manifest)
    for key in doomed:
        store.delete(key)
    value = {**change.facts, "version": change.version, "num_files_removed": len(doomed)}
    value["ended"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    # The record of a call that was killed after it stays: it has the number of files.
    store.put_if_absent(f"{RECORDS_FOLDER}v{change.version}.json", encode_versioned(value, indent=1))
    store.delete(change.key)
    return len(doomed)


def list_older_files(store: Store, record: RunRecord, manifest: Manifest) -> list[str]:
    """Returns the keys of the run's files that are not part of a published version, manifests last."""
    extent = manifest.extent or Extent(plan=record.plan)
    kept = {manifest.key, *manifest.hashes, *(file.key for file in manifest.files)}
    kept |= {part.key for part in extent.plan.parts} | {file.key for file in extent.files}
    suffix = "" if manifest.version == 1 else f"-v{manifest.version}"
    kept.add(f"report{suffix}.html")
    own = re.compile(_OWN_FILES.replace("{kind}", record.kind))
    found = [each.key for each in store.list() if own.fullmatch(each.key) and each.key not in kept]
    return sorted(found, key=lambda key: (key.startswith("_manifest"), key))


def read_deletions(store: Store) -> list[dict[str, Any]]:
    """Returns the records of the deletions that have ended, in order."""
    keys = [each.key for each in store.list(RECORDS_FOLDER)]
    values = [decode_versioned(store.get(key), join_uri(store.uri, key)) for key in keys]
    return sorted(values, key=lambda value: int(value["version"]))


def _blank(store: Store, plan: Plan, ids: Collection[str]) -> tuple[Plan, np.ndarray, set[str]]:
    """Writes the parts that hold ids again without them; returns the plan, the rows, and the ids that were found."""
    wanted = pa.array(sorted(set(ids)), pa.string())
    parts: list[PlanPart] = []
    rows: list[np.ndarray] = [np.empty(0, np.int64)]
    names: set[str] = set()
    for index, part in enumerate(plan.parts):
        table = read_part(store, part)
        held = pc.is_in(table["image_id"], value_set=wanted)
        if not pc.any(held).as_py():
            parts.append(part)
            continue
        found = table.filter(held)
        rows.append(found["row"].to_numpy())
        names |= set(found["image_id"].to_pylist())
        data = encode_table(_without(table, held))
        key = f"plan/{uuid.uuid4().hex[:8]}-{index:05d}.parquet"
        store.put(key, data)
        parts.append(replace(part, key=key, sha256=hash_bytes(data)))
    return replace(plan, parts=tuple(parts)), np.concatenate(rows), names


def _without(table: pa.Table, held: pa.ChunkedArray) -> pa.Table:
    """Returns the table with nothing but the row number in these rows; their texts are empty or null."""
    columns = [table["row"]]
    for field in list(table.schema)[1:]:
        blank = pa.scalar(None, field.type) if field.nullable else pa.scalar("", field.type)
        columns.append(pc.if_else(held, blank, table[field.name]))
    return pa.table(columns, schema=table.schema)
