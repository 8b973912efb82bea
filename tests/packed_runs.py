"""Published packed runs for tests, made by the real code in milliseconds, without Ray."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from faceattr.attributes import AttributeSet
from faceattr.data.label_columns import source_schema
from faceattr.data.packed.splits import SPLITS
from faceattr.data.packed.writer import (
    carried_schema,
    open_packed_version,
    publish_packed,
    split_section,
    verify_packed,
)
from faceattr.data.runs.begin import open_run
from faceattr.data.runs.commit import OK, commit_all
from faceattr.data.runs.plan import plan_schema, write_sectioned_plan
from faceattr.data.stores.open import open_store

_HEAD = {"image_id", "uri", "source_row", "sha256", "group", "split"}


def write_packed_run(
    uri: Any,
    attributes: AttributeSet,
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    scored: frozenset[str] = frozenset(),
    shard_size: int = 256,
    fingerprint: Mapping[str, Any] | None = None,
    publish: bool = True,
) -> str:
    """Writes a packed run and gives its URI.

    Args:
        uri: run folder, local or s3://.
        attributes: of the label columns.
        rows: split to its rows, in order. A row is a dict: `image` (encoded bytes; None makes a rejected row) and any
            of image_id, group, width_px, height_px and the label columns (`hat`, `age_low`, `race_mask`, `hat_score`
            ...); what it lacks is null, but image_id, which is `<split>/00000.jpg` and so on.
        scored: names of the attributes that have `<name>_score` and `<name>_mass`.
        shard_size: rows in a shard, a power of two.
        fingerprint: of the run.
        publish: whether the run gets its manifest.
    """
    store = open_store(str(uri))
    labels = [field for field in source_schema(attributes, scored) if field.name not in _HEAD]
    carried = carried_schema(labels)
    schema = plan_schema(list(carried))
    given = {split: [_named(row, split, place) for place, row in enumerate(rows.get(split, ()))] for split in SPLITS}

    def plan():
        sections = [(split_section(split), [pa.Table.from_pylist(given[split], schema)]) for split in SPLITS]
        return write_sectioned_plan(store, sections, shard_size=shard_size), {}, carried

    record = open_run(
        store, kind="pack", fingerprint=dict(fingerprint or {}), config={}, versions={}, notes={}, write_plan=plan
    )
    version = open_packed_version(store, record)
    packed = [row for split in SPLITS for row in given[split]]
    table = pa.Table.from_pylist([{"row": place, **row} for place, row in enumerate(packed)], version.schema)
    commit_all(version.committer(version.work()), [table], on_rows=lambda table: None)
    if publish:
        publish_packed(version, *verify_packed(version))
    return store.uri


def _named(row: Mapping[str, Any], split: str, place: int) -> dict[str, Any]:
    image = row.get("image")
    name = f"{split}/{place:05d}.jpg"
    content = None if image is None else hashlib.sha256(image).hexdigest()
    verdict = {"status": "missing", "error": "there is no such object"} if image is None else {"status": OK}
    return {"image_id": name, "uri": name, "place": 0, "sha256": content, **verdict, **row}
