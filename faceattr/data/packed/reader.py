"""Packed runs as training, search and evaluation read them: one or several, as one data set with one schema.

A packed run (`pipelines/pack.py`) is a run folder with images and labels in one table:

    packed/split=train/shard-00000000.parquet     also split=val, split=test; only the path contains the split
        row, image_id, image (encoded bytes), sha256, width_px, height_px, group, the label columns, status, error
    label_counts.csv                              split, attribute, class, count

Label columns are those in `label_columns.py`. Rows that could not be packed have a status other than `ok` and no
image; they are never returned to a reader. Rows read here have `PackedData.schema`: without status and error, with
`split`, and with null labels for the attributes that a run does not have.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from faceattr.attributes import Attribute, AttributeSet
from faceattr.config import StorageConfig
from faceattr.data.formats.integrity import REMEDY, check_footer, check_whole
from faceattr.data.formats.json_files import damage_named, describe_cause
from faceattr.data.formats.parquet import is_damage
from faceattr.data.images.face_view import FaceView
from faceattr.data.label_columns import FACE_FIELDS, label_fields, read_attributes
from faceattr.data.packed.label_counts import COUNT_SCHEMA
from faceattr.data.packed.splits import SPLITS
from faceattr.data.packed.views import read_shared_view
from faceattr.data.runs.commit import OK
from faceattr.data.runs.plan import Plan
from faceattr.data.runs.version import RUN_KEY, Manifest, RunRecord, read_manifest, read_record
from faceattr.data.sources.options import near_hint
from faceattr.data.stores.addresses import resolve_address
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.open import open_store
from faceattr.data.stores.ranged import open_ranged
from faceattr.data.stores.store import MissingObjectError, Store
from faceattr.errors import ConfigError, RunError, StorageError

PACK_KIND = "pack"
FOLDER = "packed"
SECTION_PREFIX = "split="
IMAGE_FIELDS = (
    pa.field("row", pa.int64(), nullable=False),
    pa.field("image_id", pa.string(), nullable=False),
    pa.field("image", pa.binary()),
    pa.field("sha256", pa.string()),
    pa.field("width_px", pa.int32()),
    pa.field("height_px", pa.int32()),
    pa.field("group", pa.string()),
)
STATUS_FIELDS = (pa.field("status", pa.string(), nullable=False), pa.field("error", pa.string()))


def label_counts_key(version: int) -> str:
    """Returns the key of a version's label counts in the run folder."""
    return "label_counts.csv" if version == 1 else f"label_counts-v{version}.csv"


def split_of_shard(plan: Plan, shard: int) -> str:
    """Returns the split of a packed run's shard."""
    return plan.section_of(shard).name.removeprefix(SECTION_PREFIX)


def packed_schema(attributes: AttributeSet, scored: frozenset[str] = frozenset(), *, faces: bool = False) -> pa.Schema:
    """Returns the schema of a packed run's shards: `scored` attributes have soft scores, `faces` were searched for."""
    labels = _all_label_fields(attributes, scored)
    return pa.schema([*IMAGE_FIELDS, *labels, *(FACE_FIELDS if faces else ()), *STATUS_FIELDS])


def _all_label_fields(attributes: AttributeSet, scored: frozenset[str]) -> list[pa.Field]:
    return [field for each in attributes.attributes for field in label_fields(each, scored=each.name in scored)]


@dataclass(frozen=True, kw_only=True)
class PackedFile:
    """One shard of one split.

    Attributes:
        uri: its URI.
        split: `train`, `val` or `test`.
        num_rows: rows with an image, which are the rows that a reader gets.
        num_bytes: size of the file in bytes.
        footer_sha256: see `CommittedFile`.
    """

    uri: str
    split: str
    num_rows: int
    num_bytes: int
    footer_sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class PackedData:
    """One or several packed runs; picklable, so that it can be sent to workers.

    Attributes:
        uris: the run folders, as given.
        attributes: attributes of the label columns, with class order; the union over the runs.
        scored: names of the attributes with soft scores.
        splits: split to its files, in row order; every split is present, perhaps without files.
        fingerprint: hash of the runs' content, independent of the order in which they were given.
        label_counts: columns split, attribute, class, count; coarse labels as `a|b`, ages by decade, `unknown`.
        storage: how the runs are reached.
        faces: what the runs hold of their images; None for all of it.
    """

    uris: tuple[str, ...]
    attributes: AttributeSet
    scored: frozenset[str]
    splits: Mapping[str, tuple[PackedFile, ...]]
    fingerprint: str
    label_counts: pa.Table
    storage: StorageConfig
    faces: FaceView | None = None

    @property
    def schema(self) -> pa.Schema:
        """Schema of the rows that are read."""
        split = pa.field("split", pa.string(), nullable=False)
        return pa.schema([*IMAGE_FIELDS, split, *_all_label_fields(self.attributes, self.scored)])

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Names of the label columns, in order."""
        return tuple(field.name for field in _all_label_fields(self.attributes, self.scored))

    def num_rows(self, split: str) -> int:
        """Returns the number of images in a split."""
        return sum(file.num_rows for file in self.splits[split])

    def count_labels(self, split: str, attribute: str) -> dict[str, int]:
        """Returns the labels of one attribute in one split by class, including `unknown`; see `label_counts`."""
        wanted = pc.and_(
            pc.equal(self.label_counts["split"], split), pc.equal(self.label_counts["attribute"], attribute)
        )
        found = self.label_counts.filter(wanted)
        return dict(zip(found["class"].to_pylist(), found["count"].to_pylist(), strict=True))

    def read_rows(self, file: PackedFile, columns: Sequence[str] | None = None) -> pa.Table:
        """Reads all rows of one file: `columns` in that order; default: all columns of `schema`."""
        schema = self._select(columns)
        return pa.concat_tables([schema.empty_table(), *self.iter_rows(file, columns)])

    def iter_rows(self, file: PackedFile, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yields the rows of one file, one row group (about 4 MB) at a time; only the requested columns are fetched.

        Raises:
            RunError: the file is missing or damaged.
            StorageError: the store did not answer until its deadline.
        """
        yield from (table for table in self.iter_groups(file, columns) if len(table))

    def iter_groups(self, file: PackedFile, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """As `iter_rows`, but yields a table, perhaps empty, for every row group, so that they can be counted."""
        return (table for table, _ in self.iter_sized_groups(file, columns))

    def iter_sized_groups(
        self, file: PackedFile, columns: Sequence[str] | None = None
    ) -> Iterator[tuple[pa.Table, int]]:
        """As `iter_groups`, with the bytes of the row group's encoded images, which need not be read."""
        schema = self._select(columns)
        for table, num_bytes in _read_row_groups(file, schema.names, self.storage):
            yield _good_rows(table, schema, file.split), num_bytes

    def read_group(self, file: PackedFile, group: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Reads the rows of one row group of a file, by its number; see `iter_rows`."""
        schema = self._select(columns)
        ((table, _),) = _read_row_groups(file, schema.names, self.storage, groups=range(group, group + 1))
        return _good_rows(table, schema, file.split)

    def iter_split(self, split: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yields the rows of a whole split, row group by row group, in row order."""
        for file in self.splits[split]:
            yield from self.iter_rows(file, columns)

    def _select(self, columns: Sequence[str] | None) -> pa.Schema:
        schema = self.schema
        if columns is None:
            return schema
        unknown = [name for name in columns if name not in schema.names]
        if unknown:
            raise ConfigError(f"packed data has no column {unknown[0]!r}; {near_hint(unknown[0], schema.names)}")
        return pa.schema([schema.field(name) for name in columns])


def open_packed(
    uris: Sequence[str], storage: StorageConfig | None = None, *, needs: Sequence[str] = ("train", "val")
) -> PackedData:
    """Opens published packed runs as one data set; reads their run.json, manifest and label counts, but no shard.

    Args:
        uris: run folders.
        storage: how they are reached.
        needs: splits that must have at least one image over all runs.

    Raises:
        ConfigError: one is not a packed run or not published, a needed split is empty, or an attribute is defined
            differently in two of them, or they hold different parts of their images.
    """
    storage = storage or StorageConfig()
    if not uris:
        raise ConfigError("no packed run was named; expected the --output of `faceattr pack`")
    runs = [_read_run(open_store(resolve_address(uri, "--data"), storage), verify=storage.verify) for uri in uris]
    ids = [run.record.run_id for run in runs]
    for place, run_id in enumerate(ids):
        if run_id in ids[:place]:
            raise ConfigError(f"{uris[ids.index(run_id)]} and {uris[place]} are the same packed run; name it once")
    splits = {split: tuple(file for run in runs for file in run.files if file.split == split) for split in SPLITS}
    for split in needs:
        if not sum(file.num_rows for file in splits[split]):
            raise ConfigError(_describe_empty_split(split, splits, uris))
    return PackedData(
        uris=tuple(uris),
        attributes=_union(runs),
        scored=frozenset().union(*(run.scored for run in runs)),
        splits=splits,
        fingerprint=_fingerprint(runs),
        label_counts=_add_counts([run.label_counts for run in runs]),
        storage=storage,
        faces=read_shared_view([(run.uri, run.record) for run in runs]),
    )


@dataclass(frozen=True, kw_only=True)
class _Run:
    """Content read from one run folder."""

    uri: str
    record: RunRecord
    manifest: Manifest
    files: tuple[PackedFile, ...]
    attributes: AttributeSet
    scored: frozenset[str]
    label_counts: pa.Table


def _read_run(store: Store, *, verify: bool) -> _Run:
    manifest = read_manifest(store)
    record = read_record(store)
    if record is None:
        raise ConfigError(
            f"{store.uri} holds no packed run (no run.json). Make one: faceattr pack --labels LABEL_RUN "
            f"--output {store.uri}, or --source KIND --root FOLDER"
        )
    if record.kind != PACK_KIND:
        remedy = f": faceattr pack --labels {store.uri} --output PACKED" if record.kind == "label" else ""
        raise ConfigError(f"{store.uri} holds a {record.kind} run, expected a packed one. Pack it first{remedy}")
    if manifest is None:
        raise ConfigError(
            f"{store.uri}: the packed run is not published yet; run its `faceattr pack` command again to finish it"
        )
    names = set(record.carried_schema.names)
    with damage_named(join_uri(store.uri, RUN_KEY)):
        attributes = read_attributes(record.carried_schema)
    files = tuple(
        PackedFile(
            uri=join_uri(store.uri, file.key),
            split=split_of_shard(record.plan, file.shard),
            num_rows=file.num_rows - file.num_bad,
            num_bytes=file.num_bytes,
            footer_sha256=file.footer_sha256,
        )
        for file in manifest.files
    )
    return _Run(
        uri=store.uri,
        record=record,
        manifest=manifest,
        files=tuple(file for file in files if file.num_rows),
        attributes=attributes,
        scored=frozenset(name for name in attributes.names if f"{name}_score" in names),
        label_counts=read_label_counts(store, manifest, verify=verify),
    )


def read_label_counts(store: Store, manifest: Manifest, *, verify: bool = True) -> pa.Table:
    """Reads the labels of a published version by split, attribute and class (`label_counts.COUNT_SCHEMA`).

    Raises:
        RunError: the file is missing or damaged; with `verify`, its hash differs from the manifest's.
    """
    key = label_counts_key(manifest.version)
    try:
        data = store.get(key)
    except MissingObjectError as error:
        raise RunError(f"{store.uri}: {key} is gone, which a packed run has; restore it or pack again") from error
    where = join_uri(store.uri, key)
    check_whole(data, where, num_bytes=None, sha256=manifest.hashes.get(key) if verify else None)
    convert = pyarrow.csv.ConvertOptions(
        column_types={field.name: field.type for field in COUNT_SCHEMA}, strings_can_be_null=False
    )
    try:
        return pyarrow.csv.read_csv(pa.BufferReader(data), convert_options=convert).cast(COUNT_SCHEMA)
    except (pa.ArrowException, ValueError) as error:
        raise RunError(f"{where} is damaged: {describe_cause(error)}; {REMEDY}") from error


def _add_counts(tables: Sequence[pa.Table]) -> pa.Table:
    keys = ["split", "attribute", "class"]
    added = pa.concat_tables(tables).group_by(keys, use_threads=False).aggregate([("count", "sum")])
    return added.rename_columns([*keys, "count"]).cast(COUNT_SCHEMA)


def _fingerprint(runs: Sequence[_Run]) -> str:
    held = sorted([run.record.run_id, [file.sha256 for file in run.manifest.files]] for run in runs)
    return hashlib.sha256(json.dumps(held).encode()).hexdigest()


def _describe_empty_split(split: str, splits: Mapping[str, Sequence[PackedFile]], uris: Sequence[str]) -> str:
    found = ", ".join(f"{name} {sum(file.num_rows for file in files):,}" for name, files in splits.items())
    return (
        f"{', '.join(uris)}: the split {split!r} is empty ({found}). Pack into another --output: images without an "
        f"official split are drawn by the shares (--splits.{split} 0.1); an official one can become another "
        f"(--splits.rename val={split}) or be drawn (train=draw), or all of them (--splits.official ignore)"
    )


def _union(runs: Sequence[_Run]) -> AttributeSet:
    found: dict[str, tuple[str, Attribute]] = {}
    for run in runs:
        for attribute in run.attributes.attributes:
            first, known = found.setdefault(attribute.name, (run.uri, attribute))
            if attribute != known:
                raise ConfigError(
                    f"attribute {attribute.name!r} is not the same in {first} and {run.uri}: "
                    f"{_describe_difference(known, attribute)}. Pack one of them again, with other classes or without "
                    "this attribute (--source-options.attributes)"
                )
    return AttributeSet(attributes=tuple(attribute for _, attribute in found.values()))


def _describe_difference(there: Attribute, here: Attribute) -> str:
    if there.kind != here.kind:
        return f"{there.kind} there, {here.kind} here"
    unknown = [name for name in here.classes if name not in there.classes]
    if unknown:
        return f"class {unknown[0]!r} is not among the first one's; {near_hint(unknown[0], there.classes[:20])}"
    lacking = [name for name in there.classes if name not in here.classes]
    if lacking:
        return f"the second one lacks the class {lacking[0]!r}"
    place = next(
        index for index, pair in enumerate(zip(there.classes, here.classes, strict=True)) if len(set(pair)) > 1
    )
    return f"the classes have another order, {there.classes[place]!r} there and {here.classes[place]!r} here"


def _good_rows(table: pa.Table, schema: pa.Schema, split: str) -> pa.Table:
    good = table.filter(pc.equal(table["status"], OK))
    return pa.table([_column(good, field, split) for field in schema], schema=schema)


def _column(table: pa.Table, field: pa.Field, split: str) -> pa.ChunkedArray | pa.Array:
    if field.name == "split":
        return pa.repeat(pa.scalar(split, pa.string()), len(table))
    if field.name not in table.column_names:
        return pa.nulls(len(table), field.type)
    return table[field.name].cast(field.type)


def _read_row_groups(
    packed: PackedFile, names: Sequence[str], storage: StorageConfig, *, groups: range | None = None
) -> Iterator[tuple[pa.Table, int]]:
    """Yields row groups with the requested columns that the file has and `status`, and the bytes of their images."""
    uri = packed.uri
    try:
        with open_ranged(uri, storage) as source:
            if storage.verify:
                check_footer(source, uri, num_bytes=packed.num_bytes, sha256=packed.footer_sha256)
            file = pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=True)
            columns = [name for name in file.schema_arrow.names if name in names or name == "status"]
            for group in groups if groups is not None else range(file.num_row_groups):
                table = file.read_row_group(group, columns=columns)
                yield table, _count_image_bytes(file.metadata.row_group(group))
    except FileNotFoundError as error:
        raise RunError(f"{uri} is gone, though the run's manifest lists it; restore it or pack again") from error
    except OSError as error:
        if is_damage(error, uri):
            raise RunError(f"{uri} is damaged: {describe_cause(error)}; {REMEDY}") from error
        raise StorageError(f"cannot read {uri}: {error}") from error
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise RunError(f"{uri} is damaged: {describe_cause(error)}; {REMEDY}") from error


def _count_image_bytes(group: pq.RowGroupMetaData) -> int:
    chunks = (group.column(number) for number in range(group.num_columns))
    return sum(chunk.total_compressed_size for chunk in chunks if chunk.path_in_schema == "image")
