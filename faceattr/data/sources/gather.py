"""The labels of one command: one source or several combined, and the location of each source's images.

Several sources become one, so that they train one model: the union of their attributes, null where one has no label.

Sources have names; the name is the prefix of image ids and groups (`utkface/25_0_2_1.jpg`), because two data sets may
both have a `1.jpg` or a person `17`. `uri` still is the location of the bytes.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from faceattr.attributes import Attribute, AttributeSet
from faceattr.config import StorageConfig
from faceattr.data.label_columns import source_schema
from faceattr.data.runs.run_attributes import Decision
from faceattr.data.runs.version import RunRecord, read_manifest, read_record
from faceattr.data.sources.layouts.published import read_label_run
from faceattr.data.sources.options import SourceOptions, near_hint
from faceattr.data.sources.registry import open_source
from faceattr.data.sources.source import Rejects, SourceLabels
from faceattr.data.stores.open import open_store
from faceattr.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ImagePlace:
    """The location of one source's images; picklable.

    Attributes:
        root: URI that they are below.
        bytes_column: column that contains them, if they are in Parquet files.
    """

    root: str
    bytes_column: str | None = None


@dataclass(frozen=True, kw_only=True)
class GatheredLabels:
    """The labels of one command.

    Attributes:
        labels: all rows; for several sources, the result of `combine_sources`.
        places: locations of images by number, see `place_of`.
        hashed: whether every row has the sha256 of its image, as rows of label runs do.
        names: names of the sources; empty for a single source, whose image ids have no prefix.
    """

    labels: SourceLabels
    places: tuple[ImagePlace, ...]
    hashed: bool
    names: tuple[str, ...] = ()

    def place_of(self, table: pa.Table) -> pa.Array:
        """Returns the number of each row's source, which is its index in `places`, int16 [n]."""
        if not self.names:
            return pa.array([0] * len(table), pa.int16())
        prefixes = pc.list_element(pc.split_pattern(table["image_id"], "/", max_splits=1), 0)
        return pc.index_in(prefixes, pa.array(self.names)).cast(pa.int16())


def gather_labels(
    label_runs: Sequence[str],
    *,
    source: str | None,
    root: str | None,
    options: SourceOptions,
    storage: StorageConfig,
    thresholds: Mapping[str, Decision] | None = None,
) -> GatheredLabels:
    """Opens label runs and, if given, a foreign source.

    Args:
        label_runs: run folders.
        source: kind of the foreign source.
        root: its folder.
        options: options of the foreign source; without one, `attributes` selects among the label runs' attributes.
        storage: how all of them are reached.
        thresholds: attribute -> decision by which label runs are labelled again; see `read_label_run`.

    Raises:
        ConfigError: one cannot be opened, or an attribute differs between two of them.
    """
    opened = {_run_name(uri, label_runs): _open_run(uri, storage, thresholds) for uri in label_runs}
    if source is not None and root is not None:
        name = source if source not in opened else f"{source}-source"
        opened[name] = open_source(source, root, options=options, storage=storage)
    else:
        opened = _choose_attributes(opened, label_runs, options, storage, thresholds)
    places = tuple(ImagePlace(root=each.image_root, bytes_column=each.bytes_column) for each in opened.values())
    if len(opened) == 1:
        return GatheredLabels(labels=next(iter(opened.values())), places=places, hashed=source is None)
    return GatheredLabels(labels=combine_sources(opened), places=places, hashed=source is None, names=tuple(opened))


def _open_run(
    uri: str, storage: StorageConfig, thresholds: Mapping[str, Decision] | None, attributes: tuple[str, ...] = ()
) -> SourceLabels:
    options = SourceOptions(attributes=attributes)
    return read_label_run(open_store(uri, storage), options, thresholds=thresholds, verify=storage.verify)


def _choose_attributes(
    opened: Mapping[str, SourceLabels],
    label_runs: Sequence[str],
    options: SourceOptions,
    storage: StorageConfig,
    thresholds: Mapping[str, Decision] | None,
) -> dict[str, SourceLabels]:
    if replace(options, attributes=()) != SourceOptions():
        raise ConfigError("--source-options: label runs know `attributes` only; the others belong to a --source")
    if not options.attributes:
        return dict(opened)
    known = [name for each in opened.values() for name in each.attributes.names]
    for name in options.attributes:
        if name not in known:
            raise ConfigError(f"--source-options.attributes: no label run has {name!r}; {near_hint(name, known)}")
    chosen = {}
    for uri, (run, each) in zip(label_runs, opened.items(), strict=True):
        wanted = tuple(name for name in options.attributes if name in each.attributes.names)
        if wanted:
            chosen[run] = _open_run(uri, storage, thresholds, wanted)
    return chosen


def _run_name(uri: str, label_runs: Sequence[str]) -> str:
    """Returns the last part of a run's address, numbered if several runs have the same."""
    names = [each.rstrip("/").rpartition("/")[2] or "labels" for each in label_runs]
    name = names[label_runs.index(uri)]
    return name if Counter(names)[name] == 1 else f"{name}-{label_runs.index(uri) + 1}"


def identify_label_run(uri: str, storage: StorageConfig) -> dict[str, Any]:
    """Returns what identifies a label run and its version.

    Raises:
        ConfigError: there is no published label run.
    """
    store = open_store(uri, storage)
    record: RunRecord | None = read_record(store)
    manifest = read_manifest(store)
    if record is None or record.kind != "label" or manifest is None:
        raise ConfigError(f"--labels {uri}: there is no published label run; finish it with `faceattr label`")
    return {"run_id": record.run_id, "version": manifest.version}


def combine_sources(sources: Mapping[str, SourceLabels]) -> SourceLabels:
    """Combines all rows of all sources, one source after the other, in one schema. `image_root` is empty: use `uri`.

    Raises:
        ConfigError: an attribute is defined differently in two of them.
    """
    attributes = AttributeSet(attributes=tuple(_union(sources).values()))
    scored = frozenset().union(*(source.scored for source in sources.values()))
    schema = source_schema(attributes, scored)

    def read(rejects: Rejects) -> Iterator[pa.Table]:
        for name, source in sources.items():
            for table in source.tables(rejects):
                yield pa.table([_column(table, field, name) for field in schema], schema=schema)

    where = ", ".join(f"{name}: {source.where}" for name, source in sources.items())
    return SourceLabels(
        kind="combined",
        where=where,
        image_root="",
        attributes=attributes,
        read=read,
        scored=scored,
        decisions={
            f"{name}/{attribute}": each
            for name, source in sources.items()
            for attribute, each in source.decisions.items()
        },
    )


def _union(sources: Mapping[str, SourceLabels]) -> dict[str, Attribute]:
    found: dict[str, tuple[str, Attribute]] = {}
    for name, source in sources.items():
        for attribute in source.attributes.attributes:
            first, known = found.setdefault(attribute.name, (name, attribute))
            if attribute != known:
                meanings = f"{_brief(known)} in {first!r} and {_brief(attribute)} in {name!r}"
                raise ConfigError(
                    f"attribute {attribute.name!r} is {meanings}; choose attributes that mean the same in both, or "
                    "leave it out of one"
                )
    return {name: attribute for name, (_, attribute) in found.items()}


def _brief(attribute: Attribute) -> str:
    shown = ", ".join(attribute.classes[:8]) + (", ..." if len(attribute.classes) > 8 else "")
    return f"{attribute.kind} [{shown}]"


def _column(table: pa.Table, field: pa.Field, name: str) -> pa.ChunkedArray | pa.Array:
    if field.name not in table.column_names:
        return pa.nulls(len(table), field.type)
    column = table[field.name]
    return pc.binary_join_element_wise(name, column, "/") if field.name in ("image_id", "group") else column
