"""A published label or prediction run as a source: labels, soft scores, masses; rows without an image are rejects.

The run's derived attributes are plain binary attributes here, without scores. Carried manifest columns `split` and
`group` are used as such.

Scores of binary attributes are moved to the scale on which 0.5 is the threshold of the run (the teacher). A question
with `threshold: 0.2` says yes from 0.2 on. Everything that learns from scores (soft losses and their confidence
weights, label smoothing, class weights, hard labels together with soft ones, runs with other thresholds) takes 0.5 as
the boundary between no and yes, so scores are moved once, where a label run becomes a source (`recentre_scores`):

    logit(moved) = logit(score) - logit(threshold)

This is Bayes' rule for prior odds changed by (1 - threshold) / threshold (Elkan 2001, The Foundations of
Cost-Sensitive Learning, theorem 2). The order of the scores, and the values 0 and 1, stay unchanged.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceattr.attributes import DEFAULT_THRESHOLD
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
    cuts = {
        f"{name}_score": (name, each.threshold)
        for name, each in decisions.items()
        if attributes[name].has_threshold and each.threshold != DEFAULT_THRESHOLD
    }
    carried = [name for name in _CARRIED if name in record.carried_schema.names]

    def read(rejects: Rejects) -> Iterator[pa.Table]:
        plan = manifest.settle(record).plan
        source_rows = SourceRows(store, plan if record.source["kind"] in IN_FILES else None)
        given = ["row", "image_id", "uri", "sha256", "status", "error", *carried, *attributes.names]
        given += [f"{name}_{suffix}" for name in attributes.names if name in scored for suffix in ("score", "mass")]
        relabelled = read_attribute_set(record)
        if again:  # a derived attribute may be packed without its inputs
            given.extend(
                [*relabelled.names, *(rule.name for rule in relabelled.derived), *(f"{name}_score" for name in again)]
            )
        for published in read_published(store, list(dict.fromkeys(given)), verify=verify):
            table = relabel(published, relabelled, again) if again else published
            _count_rejects(table, rejects, store.uri)
            good = table.filter(pc.equal(table["status"], OK))
            columns = [
                recentre_scores(good[field.name], good[cuts[field.name][0]], cuts[field.name][1])
                if field.name in cuts
                else _column(good, field, source_rows)
                for field in schema
            ]
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


_BELOW = np.nextafter(np.float32(DEFAULT_THRESHOLD), np.float32(0))


def recentre_scores(scores: pa.ChunkedArray, labels: pa.ChunkedArray, threshold: float) -> pa.Array:
    """Returns scores that are at least 0.5 for a yes and less for a no, float32 [n]; null where there was none.

    Args:
        scores: float32 [n] P(yes) in [0, 1], or null.
        labels: int [n], 0 or 1 by the threshold; null if the teacher abstained or the label is unknown.
        threshold: in [0, 1]; a score of at least this value is a yes.
    """
    score = scores.cast(pa.float64()).fill_null(0.0).to_numpy()
    label = labels.cast(pa.int8()).fill_null(-1).to_numpy()
    yes, no = score * (1 - threshold), (1 - score) * threshold
    # Both are 0 for score 0 at threshold 0, and for score 1 at threshold 1; the threshold is reached, so this is a yes.
    moved = np.divide(yes, yes + no, out=np.ones_like(yes), where=yes + no > 0).astype(np.float32)
    # A score close to the threshold stays on its side, whatever rounding does.
    moved = np.where(label == 1, np.maximum(moved, np.float32(DEFAULT_THRESHOLD)), moved)
    moved = np.where(label == 0, np.minimum(moved, _BELOW), moved)
    return pa.array(moved, pa.float32(), mask=scores.is_null().to_numpy(zero_copy_only=False))
