"""A published label or prediction run as a source: labels, soft scores, masses; rows without an image are rejects.

The run's derived attributes are plain binary attributes here, without scores. Carried manifest columns `split` and
`group` are used as such.

Scores of binary attributes are moved to the scale on which 0.5 is the threshold of the run (the teacher), see
`faceattr.data.sources.recentring`. That takes a pass of its own over the labels and scores of the attributes with
another threshold, where the run is first read.
"""

from collections.abc import Iterator, Mapping
from functools import cache

import pyarrow as pa
import pyarrow.compute as pc

from faceattr.config import StorageConfig
from faceattr.data.inputs.source_rows import SourceRows
from faceattr.data.label_columns import AGE_LIMIT, source_schema
from faceattr.data.relabel import relabel
from faceattr.data.runs.commit import OK
from faceattr.data.runs.plan import IN_FILES
from faceattr.data.runs.run_attributes import (
    Decision,
    read_attribute_set,
    read_decisions,
    read_run_attributes,
    scored_attributes,
)
from faceattr.data.runs.version import read_manifest, read_published, read_record
from faceattr.data.sources.options import SourceOptions, select_attributes
from faceattr.data.sources.recentring import Recentring, measure_recentrings, moved_decisions
from faceattr.data.sources.source import BadRow, Rejects, SourceLabels, check_first_rows
from faceattr.data.stores.open import open_store
from faceattr.data.stores.store import Store
from faceattr.errors import ConfigError

_CARRIED = ("group", "split")


def open_labels(root: str, options: SourceOptions, storage: StorageConfig) -> SourceLabels:
    """Opens the run folder of a label run; see the module.

    Raises:
        ConfigError: there is no published label run.
    """
    return read_label_run(open_store(root, storage), options, verify=storage.verify)


def read_label_run(
    store: Store,
    options: SourceOptions | None = None,
    *,
    thresholds: Mapping[str, Decision] | None = None,
    verify: bool = True,
) -> SourceLabels:
    """Reads the label run in a store; see `open_labels`.

    Args:
        store: the run folder.
        options: `attributes` selects among the run's attributes.
        thresholds: attribute -> decision by which it is labelled again; attributes that the run lacks are ignored.
        verify: see `read_published`.
    """
    options = options or SourceOptions()
    record = read_record(store)
    if record is None or record.kind not in ("label", "prediction"):
        raise ConfigError(f"{store.uri} holds no label run (no run.json of one); give the --output of one")
    manifest = read_manifest(store)
    if manifest is None:
        raise ConfigError(f"{store.uri}: the label run is not published yet; run its command again to finish it")
    available, asked = read_run_attributes(record), scored_attributes(record)
    attributes = select_attributes(available, options.attributes, default=available, where=store.uri)
    with_score = {name for name, each in asked.items() if each.has_class_scores}
    scored = frozenset(with_score) & set(attributes.names)
    schema = source_schema(attributes, scored)
    again = {name: each for name, each in (thresholds or {}).items() if name in asked}
    decisions = {
        name: each for name, each in (read_decisions(record, manifest) | again).items() if name in attributes.names
    }
    moved = moved_decisions(decisions, asked)
    carried = [name for name in _CARRIED if name in record.carried_schema.names]
    relabelled = read_attribute_set(record)

    def read_columns(*names: str) -> Iterator[pa.Table]:
        given = ["status", *names]
        if again:  # a derived attribute may be packed without its inputs
            given += [*relabelled.names, *(rule.name for rule in relabelled.derived)]
            given += [f"{name}_score" for name in again]
        for published in read_published(store, list(dict.fromkeys(given)), verify=verify):
            yield relabel(published, relabelled, again) if again else published

    @cache
    def measure() -> dict[str, Recentring]:
        found = read_columns(*moved, *(f"{name}_score" for name in moved))
        return measure_recentrings((each.filter(pc.equal(each["status"], OK)) for each in found), moved)

    def read(rejects: Rejects) -> Iterator[pa.Table]:
        recentrings = {f"{name}_score": (name, each) for name, each in (measure() if moved else {}).items()}
        plan = manifest.settle(record).plan
        source_rows = SourceRows(store, plan if record.source["kind"] in IN_FILES else None)
        scores = [f"{name}_{suffix}" for name in attributes.names if name in scored for suffix in ("score", "mass")]
        given = ["row", "image_id", "uri", "sha256", "error", *carried, *attributes.names, *scores]
        for table in read_columns(*given):
            _count_rejects(table, rejects, store.uri)
            good = table.filter(pc.equal(table["status"], OK))
            columns = []
            for field in schema:
                if field.name in recentrings:
                    name, recentring = recentrings[field.name]
                    columns.append(recentring.apply(good[field.name], good[name]))
                else:
                    columns.append(_column(good, field, source_rows))
            if len(good):
                yield pa.table(columns, schema=schema)

    source = SourceLabels(
        kind="labels",
        where=store.uri,
        image_root=record.source["root"],
        attributes=attributes,
        read=read,
        scored=scored,
        bytes_column=record.source["bytes_column"],
        decisions=decisions,
    )
    return check_first_rows(source, "a label run with at least one labelled image")


def _count_rejects(table: pa.Table, rejects: Rejects, where: str) -> None:
    bad = table.filter(pc.not_equal(table["status"], OK)).select(["image_id", "status", "error"])
    for row in bad.to_pylist():
        rejects.reject(BadRow(row["status"], row["error"] or ""), where=where, line=None, text=row["image_id"])


def _column(table: pa.Table, field: pa.Field, source_rows: SourceRows) -> pa.ChunkedArray | pa.Array:
    if field.name == "source_row":
        return source_rows.of(table["row"].to_numpy())
    years = field.name.removesuffix("_low").removesuffix("_high")
    if years != field.name and years in table.column_names:  # a predicted age counts as its completed year
        low = pc.floor(pc.max_element_wise(pc.min_element_wise(table[years], AGE_LIMIT - 1), 0.0))
        return (low if field.name.endswith("_low") else pc.add(low, 1.0)).cast(field.type)
    if field.name not in table.column_names:
        return pa.nulls(len(table), field.type)
    return table[field.name].cast(field.type)
