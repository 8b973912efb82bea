"""The labels of one command: one source, or several that are combined, and where the images of each lie."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from faceattr.config import StorageConfig
from faceattr.data.runs.version import RunRecord, read_manifest, read_record
from faceattr.data.sources.combine import combine_sources
from faceattr.data.sources.options import SourceOptions, near_hint
from faceattr.data.sources.registry import open_source
from faceattr.data.sources.source import SourceLabels
from faceattr.data.stores.open import open_store
from faceattr.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ImagePlace:
    """Where the images of one source lie; picklable.

    Attributes:
        root: URI below which they lie.
        bytes_column: the column that holds them, where they lie in Parquet files.
    """

    root: str
    bytes_column: str | None = None


@dataclass(frozen=True, kw_only=True)
class GatheredLabels:
    """The labels of one command.

    Attributes:
        labels: all rows; of several sources, as `combine_sources` gives them.
        places: by number, as `place_of` gives it.
        hashed: whether every row comes with the sha256 of its image, as those of label runs do.
        names: of the sources; empty if there is one, whose image ids stand as they are.
    """

    labels: SourceLabels
    places: tuple[ImagePlace, ...]
    hashed: bool
    names: tuple[str, ...] = ()

    def place_of(self, table: pa.Table) -> pa.Array:
        """Number of the place of each row, int16 [n]."""
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
) -> GatheredLabels:
    """Opens label runs and, if there is one, a foreign source.

    Args:
        label_runs: run folders.
        source: kind of the foreign source.
        root: its folder.
        options: of the foreign source; without one, `attributes` chooses among those of the label runs.
        storage: how to reach all of them.

    Raises:
        ConfigError: one cannot be opened, or an attribute is not the same in two.
    """
    opened = {_run_name(uri, label_runs): _open_run(uri, storage) for uri in label_runs}
    if source is not None and root is not None:
        name = source if source not in opened else f"{source}-source"
        opened[name] = open_source(source, root, options=options, storage=storage)
    else:
        opened = _choose_attributes(opened, label_runs, options, storage)
    places = tuple(ImagePlace(root=each.image_root, bytes_column=each.bytes_column) for each in opened.values())
    if len(opened) == 1:
        return GatheredLabels(labels=next(iter(opened.values())), places=places, hashed=source is None)
    return GatheredLabels(labels=combine_sources(opened), places=places, hashed=source is None, names=tuple(opened))


def _open_run(uri: str, storage: StorageConfig, attributes: tuple[str, ...] = ()) -> SourceLabels:
    return open_source("labels", uri, options=SourceOptions(attributes=attributes), storage=storage)


def _choose_attributes(
    opened: Mapping[str, SourceLabels], label_runs: Sequence[str], options: SourceOptions, storage: StorageConfig
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
            chosen[run] = _open_run(uri, storage, wanted)
    return chosen


def _run_name(uri: str, label_runs: Sequence[str]) -> str:
    """Last part of a run's address, numbered where two have the same."""
    names = [each.rstrip("/").rpartition("/")[2] or "labels" for each in label_runs]
    name = names[label_runs.index(uri)]
    return name if Counter(names)[name] == 1 else f"{name}-{label_runs.index(uri) + 1}"


def identify_label_run(uri: str, storage: StorageConfig) -> dict[str, Any]:
    """What tells whether a label run is still the one that it was.

    Raises:
        ConfigError: no published label run is there.
    """
    store = open_store(uri, storage)
    record: RunRecord | None = read_record(store)
    manifest = read_manifest(store)
    if record is None or record.kind != "label" or manifest is None:
        raise ConfigError(f"--labels {uri}: no published label run is there; finish it with pipelines/label.py")
    return {"run_id": record.run_id, "version": manifest.version}
