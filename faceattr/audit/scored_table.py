"""A table with scores, as an audit reads it: a published label or prediction run, or any Parquet file with scores.

A Parquet file needs `uri` or `image_path`, whole or relative to the file's folder, and `<name>_score` columns with
P(yes) of binary attributes. `<name>`, 0 or 1, is its label; without it, a score from 0.5 on is a yes.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from faceattr.attributes import DEFAULT_THRESHOLD, Attribute, check_attribute_name
from faceattr.config import StorageConfig
from faceattr.data.formats.parquet import read_batches
from faceattr.data.formats.text_tables import table_file
from faceattr.data.inputs.source_rows import SourceRows
from faceattr.data.runs.commit import OK
from faceattr.data.runs.plan import IN_FILES
from faceattr.data.runs.run_attributes import Decision, read_decisions, scored_attributes
from faceattr.data.runs.version import RunRecord, read_manifest, read_published, read_record
from faceattr.data.stores.addresses import key_below, resolve_address
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.open import open_store
from faceattr.data.stores.store import Store
from faceattr.errors import ConfigError

_BATCH_ROWS = 65_536
_HEAD = ("row", "image_id", "uri")


@dataclass(frozen=True, kw_only=True)
class ScoredTable:
    """A table of scores.

    Attributes:
        address: the run folder or the file.
        run_id: id of the run; None for a file.
        version: published version of the run; 0 for a file.
        root: where the images of relative addresses are.
        bytes_column: for packed input, the column with the encoded images.
        attributes: those with scores, by name.
        decisions: attribute -> how its labels were made from scores; see `read_decisions`.
        read: yields tables with row, image_id, uri, source_row, status, and per attribute `<name>` and `<name>_score`.
    """

    address: str
    run_id: str | None
    version: int
    root: str
    bytes_column: str | None
    attributes: Mapping[str, Attribute]
    decisions: Mapping[str, Decision]
    read: Callable[[], Iterator[pa.Table]]


def open_scored_table(address: str, storage: StorageConfig, names: tuple[str, ...] = ()) -> ScoredTable:
    """Opens the table to audit.

    Args:
        address: a run folder, or a Parquet file.
        storage: how stores are accessed.
        names: attributes to audit; by default all that have scores and classes, but no persons.

    Raises:
        ConfigError: there is no such table, or it has no such scores.
    """
    table = _open_file(address, storage) if address.endswith(".parquet") else _open_run(address, storage)
    usable = {name: each for name, each in table.attributes.items() if each.has_class_scores}
    unknown = [name for name in names if name not in usable]
    if unknown or not usable:
        raise ConfigError(
            f"{address} has no class scores of {', '.join(unknown) or 'any attribute'}; it has scores of: "
            f"{', '.join(usable) or 'none'}"
        )
    chosen = {name: usable[name] for name in names or usable}
    return replace(table, attributes=chosen)


def read_scores(table: pa.Table, attribute: Attribute) -> tuple[np.ndarray, np.ndarray]:
    """Returns the scores by which rows are sampled, float64 [n], and whether a row has one, bool [n].

    Args:
        table: rows of a scored table.
        attribute: of a binary attribute the score is P(yes), of a multiclass one that of the likeliest class.
    """
    column = table[f"{attribute.name}_score"].combine_chunks()
    known = np.asarray(pc.and_(column.is_valid(), pc.equal(table["status"], OK).combine_chunks()), bool)
    if attribute.is_yes_no:
        scores = column.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False)
    else:
        scores = np.zeros(len(column))
        flat = column.drop_null().flatten().cast(pa.float64()).to_numpy(zero_copy_only=False)
        scores[np.asarray(column.is_valid())] = flat.reshape(-1, len(attribute.classes)).max(1)
    known &= (scores >= 0) & (scores <= 1)
    return np.where(known, scores, 0.0), known


def _open_run(address: str, storage: StorageConfig) -> ScoredTable:
    store = open_store(address, storage)
    record, manifest = read_record(store), read_manifest(store)
    if record is None or record.kind not in ("label", "prediction"):
        raise ConfigError(f"{address} holds no label or prediction run (no run.json of one); give the --output of one")
    if manifest is None:
        raise ConfigError(f"{address}: the run is not published yet; run its command again to finish it")
    attributes = scored_attributes(record)
    return ScoredTable(
        address=address,
        run_id=record.run_id,
        version=manifest.version,
        root=record.source["root"],
        bytes_column=record.source["bytes_column"],
        attributes=attributes,
        decisions=read_decisions(record, manifest),
        read=lambda: _read_run(store, manifest.settle(record), attributes, verify=storage.verify),
    )


def _read_run(
    store: Store, record: RunRecord, attributes: Mapping[str, Attribute], *, verify: bool
) -> Iterator[pa.Table]:
    source_rows = SourceRows(store, record.plan if record.source["kind"] in IN_FILES else None)
    names = [column for name in attributes for column in (name, f"{name}_score")]
    for table in read_published(store, [*_HEAD, "status", *names], verify=verify):
        yield table.append_column("source_row", source_rows.of(table["row"].to_numpy()))


def _open_file(address: str, storage: StorageConfig) -> ScoredTable:
    with table_file(address, storage) as source:
        schema = pq.read_schema(source)
    where = next((name for name in ("uri", "image_path") if name in schema.names), None)
    if where is None:
        raise ConfigError(f"{address} has neither a column uri nor image_path; it has {', '.join(schema.names)}")
    attributes = {}
    for field in schema:
        name = field.name.removesuffix("_score")
        if name != field.name and pa.types.is_floating(field.type):
            check_attribute_name(name)
            attributes[name] = Attribute(name=name)
    root = resolve_address(address, "the table").rpartition("/")[0]
    return ScoredTable(
        address=address,
        run_id=None,
        version=0,
        root=root,
        bytes_column=None,
        attributes=attributes,
        decisions={},
        read=lambda: _read_file(address, storage, where, attributes, root),
    )


def _read_file(
    address: str, storage: StorageConfig, where: str, attributes: Mapping[str, Attribute], root: str
) -> Iterator[pa.Table]:
    first = 0
    with table_file(address, storage) as source:
        file = pq.ParquetFile(source)
        labels = [name for name in attributes if name in file.schema_arrow.names]
        names = [f"{name}_score" for name in attributes]
        for found in read_batches(file, _BATCH_ROWS, [where, *labels, *names]):
            keys = [key_below(each or "", root) for each in found[where].to_pylist()]
            columns = {
                "row": pa.array(np.arange(first, first + len(found))),
                "image_id": pa.array(keys, pa.string()),
                "uri": pa.array([_place(key, root) for key in keys], pa.string()),
                "source_row": pa.nulls(len(found), pa.int64()),
                "status": pa.array([OK] * len(found)),
            }
            for name in attributes:
                score = found[f"{name}_score"]
                columns[f"{name}_score"] = score
                yes = pc.greater_equal(score.cast(pa.float64()), DEFAULT_THRESHOLD)
                columns[name] = (found[name] if name in labels else yes).cast(pa.int32())
            first += len(found)
            yield pa.table(columns)


def _place(key: str, root: str) -> str:
    """Returns the address of an image by its key below the root; an address of its own stays."""
    return key if key.startswith("/") or "://" in key else join_uri(root, key)
