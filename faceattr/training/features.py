"""A cache of the activations at a freezing boundary: files of arrays, made once, mapped into every trial's memory.

    features/<digest of the key>/
        split=train/part-00000000.arrow     some rows of a split, in their order: index int64, features [size]
        _features.json                      last: the key, the shape, the parts

A part is an uncompressed Arrow file whose name follows from its number, so that any number of writers make the cache
once, and one that was stopped is gone on with. Processes of a machine share the pages of a mapped file.
"""

import fcntl
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from faceattr.data.fetch import fetch_folder
from faceattr.data.json_files import damage_named, decode_versioned, encode_versioned
from faceattr.data.storage import LocalStore, StorageOptions, Store, join_uri, open_store
from faceattr.data.store_types import MissingObjectError
from faceattr.errors import RunError
from faceattr.training.feature_key import FeatureKey, FeatureType
from faceattr.training.order import Indices

_MANIFEST = "_features.json"
_TORCH_TYPES: dict[FeatureType, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file.

    Attributes:
        split: of its rows.
        number: of the part in the split.
        start: index of its first row in the split.
        num_rows: rows in it.
    """

    split: str
    number: int
    start: int
    num_rows: int

    @property
    def key(self) -> str:
        """Where it lies in the cache's folder."""
        return f"split={self.split}/part-{self.number:08d}.arrow"


@dataclass(frozen=True, kw_only=True)
class FeatureManifest:
    """What a finished cache holds.

    Attributes:
        key: what it depends on, as JSON values.
        dtype: of the stored numbers.
        shape: of the activations of one image.
        parts: of all splits.
    """

    key: dict[str, Any]
    dtype: FeatureType
    shape: tuple[int, ...]
    parts: tuple[Part, ...]

    @property
    def num_bytes(self) -> int:
        """Of all activations."""
        rows = sum(part.num_rows for part in self.parts)
        return rows * int(np.prod(self.shape)) * _TORCH_TYPES[self.dtype].itemsize


def features_uri(root: str, key: FeatureKey) -> str:
    """The folder of a cache below a run's folder."""
    return join_uri(root, f"features/{key.digest}")


def cut_parts(split: str, num_rows: int, part_rows: int) -> list[Part]:
    """Parts of equal size, the last one shorter, in order."""
    return [
        Part(split=split, number=number, start=start, num_rows=min(part_rows, num_rows - start))
        for number, start in enumerate(range(0, num_rows, part_rows))
    ]


def encode_part(part: Part, features: Tensor, dtype: FeatureType) -> bytes:
    """The file of a part.

    Args:
        part: which rows.
        features: [num_rows, ...] on the CPU.
        dtype: to store.
    """
    if len(features) != part.num_rows:
        raise ValueError(f"{part.key}: expected {part.num_rows} rows, found {len(features)}")
    stored = features.to(_TORCH_TYPES[dtype]).contiguous()
    # Arrow has no bfloat16; its bits are kept as integers.
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


def write_part(store: Store, part: Part, features: Tensor, dtype: FeatureType) -> None:
    """Puts a part into a cache's folder, unless another writer was first: its numbers are the same."""
    store.put_if_absent(part.key, encode_part(part, features, dtype))


def missing_parts(store: Store, parts: Sequence[Part]) -> list[Part]:
    """Those that are not there yet, from one listing."""
    there = {entry.key for entry in store.list("split=")}
    return [part for part in parts if part.key not in there]


def publish_features(store: Store, key: FeatureKey, shape: Sequence[int], parts: Sequence[Part]) -> FeatureManifest:
    """Says that a cache is complete.

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
    """What a cache's folder holds, or None if it is not complete."""
    try:
        value = decode_versioned(store.get(_MANIFEST), join_uri(store.uri, _MANIFEST))
    except MissingObjectError:
        return None
    with damage_named(join_uri(store.uri, _MANIFEST)):
        parts = tuple(Part(**part) for part in value["parts"])
        return FeatureManifest(**{**value, "shape": tuple(value["shape"]), "parts": parts})


class Features:
    """Activations of one split, by index of the row in it.

    Attributes:
        shape: of the activations of one image.
    """

    def __init__(self, folder: Path, manifest: FeatureManifest, split: str) -> None:
        """Maps the files of a split.

        Raises:
            RunError: a file is not what the manifest says.
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
        """Activations of some rows, float32 [n, *shape], in the order of `index`."""
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
        """All activations, float32 [n, *shape], in memory."""
        return self.take(np.arange(len(self)))


def _map_part(path: Path, part: Part, shape: Sequence[int]) -> npt.NDArray[Any]:
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    features = table["features"].chunk(0)
    first = table["index"][0].as_py()
    if len(table) != part.num_rows or first != part.start or features.type.list_size != int(np.prod(shape)):
        raise RunError(f"{path}: not the part that the manifest of the feature cache says; delete the cache's folder")
    values: npt.NDArray[Any] = features.flatten().to_numpy(zero_copy_only=True)
    return values.reshape(part.num_rows, *shape)


def open_features(uri: str, storage: StorageOptions) -> Mapping[str, Features] | None:
    """Split -> activations, on this machine's disk; None if there is no complete cache.

    A cache in object storage is downloaded once a machine: the first process does it, the others wait.

    Args:
        uri: from `features_uri`.
        storage: how it is reached.
    """
    store = open_store(uri, storage)
    manifest = read_feature_manifest(store)
    if manifest is None:
        return None
    if isinstance(store, LocalStore):
        folder = store.root
    else:
        lock = Path(os.environ.get("FACEATTR_CACHE", Path.home() / ".cache" / "faceattr")) / "features.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            folder = fetch_folder(uri, storage)
    splits = dict.fromkeys(part.split for part in manifest.parts)
    return {split: Features(folder, manifest, split) for split in splits}
