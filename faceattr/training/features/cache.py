"""Cache of the activations at a freezing boundary: files of arrays, computed once and memory-mapped by every trial.

    features/<digest of the key>/
        split=train/part-00000000.arrow     consecutive rows of a split: index int64, features [size]
        _features.json                      written last: the key, the shape, the parts

A part is an uncompressed Arrow file whose name is determined by its number, so that any number of writers fill the
cache together, and an interrupted one is resumed. Processes of a machine share the pages of a mapped file.
"""

import fcntl
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from faceattr.config import StorageConfig
from faceattr.data.formats.json_files import damage_named, decode_versioned, encode_versioned
from faceattr.data.model_folders import cache_folder, fetch_folder
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.local import LocalStore
from faceattr.data.stores.open import open_store
from faceattr.data.stores.store import MissingObjectError, Store
from faceattr.errors import RunError
from faceattr.training.features.key import FeatureKey, FeatureType
from faceattr.training.row_order import Indices

_MANIFEST = "_features.json"
_TORCH_TYPES: dict[FeatureType, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


@dataclass(frozen=True, kw_only=True)
class FeatureChunk:
    """One part: a file of the cache.

    Attributes:
        split: split of its rows.
        number: index of the part in the split.
        start: index of its first row in the split.
        num_rows: number of its rows.
    """

    split: str
    number: int
    start: int
    num_rows: int

    @property
    def key(self) -> str:
        """Its path in the cache's folder."""
        return f"split={self.split}/part-{self.number:08d}.arrow"


@dataclass(frozen=True, kw_only=True)
class FeatureManifest:
    """Content of a complete cache.

    Attributes:
        key: what the activations depend on, as JSON values.
        dtype: dtype of the stored activations.
        shape: shape of one image's activations.
        parts: parts of all splits.
    """

    key: dict[str, Any]
    dtype: FeatureType
    shape: tuple[int, ...]
    parts: tuple[FeatureChunk, ...]

    @property
    def num_bytes(self) -> int:
        """Size of all activations in bytes."""
        rows = sum(part.num_rows for part in self.parts)
        return rows * int(np.prod(self.shape)) * _TORCH_TYPES[self.dtype].itemsize


def features_uri(root: str, key: FeatureKey) -> str:
    """Returns the URI of a cache's folder below a run's folder."""
    return join_uri(root, f"features/{key.digest}")


def cut_parts(split: str, num_rows: int, part_rows: int) -> list[FeatureChunk]:
    """Cuts a split into parts of equal size, the last one shorter, in order."""
    return [
        FeatureChunk(split=split, number=number, start=start, num_rows=min(part_rows, num_rows - start))
        for number, start in enumerate(range(0, num_rows, part_rows))
    ]


def encode_part(part: FeatureChunk, features: Tensor, dtype: FeatureType) -> bytes:
    """Encodes the file of a part.

    Args:
        part: the part.
        features: [num_rows, ...], on the CPU.
        dtype: dtype to store.
    """
    if len(features) != part.num_rows:
        raise ValueError(f"{part.key}: expected {part.num_rows} rows, found {len(features)}")
    stored = features.to(_TORCH_TYPES[dtype]).contiguous()
    # Arrow has no bfloat16; its bits are stored as integers.
    flat = stored.view(torch.uint16) if dtype == "bfloat16" else stored
    values = pa.array(flat.flatten().numpy())
    table = pa.table(
        {
            "index": pa.array(np.arange(part.start, part.start + part.num_rows)),
            "features": pa.FixedSizeListArray.from_arrays(values, features[0].numel()),
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=part.num_rows)
    return bytes(sink.getvalue())


def write_part(store: Store, part: FeatureChunk, features: Tensor, dtype: FeatureType) -> None:
    """Writes a part into a cache's folder, unless another writer, whose values are equal, was first."""
    store.put_if_absent(part.key, encode_part(part, features, dtype))


def missing_parts(store: Store, parts: Sequence[FeatureChunk]) -> list[FeatureChunk]:
    """Returns the parts that do not exist yet, from one listing."""
    there = {entry.key for entry in store.list("split=")}
    return [part for part in parts if part.key not in there]


def publish_features(
    store: Store, key: FeatureKey, shape: Sequence[int], parts: Sequence[FeatureChunk]
) -> FeatureManifest:
    """Writes the manifest, which marks the cache as complete.

    Raises:
        RunError: a part is missing.
    """
    missing = missing_parts(store, parts)
    if missing:
        raise RunError(f"{store.uri}: {len(missing)} of {len(parts)} parts of the feature cache are missing; run again")
    manifest = FeatureManifest(key=key.to_json(), dtype=key.dtype, shape=tuple(shape), parts=tuple(parts))
    store.put(_MANIFEST, encode_versioned(asdict(manifest), indent=1))
    return manifest


def read_feature_manifest(store: Store) -> FeatureManifest | None:
    """Reads the manifest of a cache's folder, or returns None if the cache is not complete."""
    try:
        value = decode_versioned(store.get(_MANIFEST), join_uri(store.uri, _MANIFEST))
    except MissingObjectError:
        return None
    with damage_named(join_uri(store.uri, _MANIFEST)):
        parts = tuple(FeatureChunk(**part) for part in value["parts"])
        return FeatureManifest(**{**value, "shape": tuple(value["shape"]), "parts": parts})


class Features:
    """Activations of one split, by row index in the split.

    Attributes:
        shape: shape of one image's activations.
    """

    def __init__(self, folder: Path, manifest: FeatureManifest, split: str) -> None:
        """Maps the files of a split into memory.

        Raises:
            RunError: a file differs from the manifest.
        """
        parts = sorted((part for part in manifest.parts if part.split == split), key=lambda part: part.number)
        self.shape = manifest.shape
        self._dtype = manifest.dtype
        self._starts = np.array([part.start for part in parts], np.int64)
        self._arrays = [_map_part(folder / part.key, part, manifest.shape) for part in parts]
        self._num_rows = sum(part.num_rows for part in parts)

    def __len__(self) -> int:
        return self._num_rows

    def take(self, index: Indices) -> Tensor:
        """Returns the activations of the rows `index`, float32 [n, *shape], in that order."""
        found: Tensor | None = None
        which = np.searchsorted(self._starts, index, side="right") - 1
        for number in np.unique(which):
            rows = np.flatnonzero(which == number)
            part = self._arrays[number][index[rows] - self._starts[number]]
            if found is None:
                found = torch.empty((len(index), *self.shape), dtype=_TORCH_TYPES[self._dtype])
            values = torch.from_numpy(part)
            found[torch.from_numpy(rows)] = values.view(torch.bfloat16) if self._dtype == "bfloat16" else values
        return torch.empty((0, *self.shape)) if found is None else found.float()

    def load(self) -> Tensor:
        """Loads all activations into memory, float32 [n, *shape]."""
        return self.take(np.arange(len(self)))


def _map_part(path: Path, part: FeatureChunk, shape: Sequence[int]) -> npt.NDArray[Any]:
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    features = table["features"].chunk(0)
    first = table["index"][0].as_py()
    if len(table) != part.num_rows or first != part.start or features.type.list_size != int(np.prod(shape)):
        raise RunError(f"{path}: differs from the manifest of the feature cache; delete the cache's folder")
    values: npt.NDArray[Any] = features.flatten().to_numpy(zero_copy_only=True)
    return values.reshape(part.num_rows, *shape)


def open_features(uri: str, storage: StorageConfig) -> Mapping[str, Features] | None:
    """Opens split -> activations on this machine's disk; returns None if there is no complete cache.

    A cache in object storage is downloaded once per machine: the first process downloads it, the others wait.

    Args:
        uri: URI from `features_uri`.
        storage: how object storage is reached.
    """
    store = open_store(uri, storage)
    manifest = read_feature_manifest(store)
    if manifest is None:
        return None
    if isinstance(store, LocalStore):
        folder = store.root
    else:
        lock = cache_folder() / "features.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            folder = fetch_folder(uri, storage)
    splits = dict.fromkeys(part.split for part in manifest.parts)
    return {split: Features(folder, manifest, split) for split in splits}
