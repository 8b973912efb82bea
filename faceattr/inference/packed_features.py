"""Pooled features of all images of a packed run, computed in this process and kept in a feature cache.

A stopped computation resumes: what the cache has is not computed again (`faceattr.training.features.cache`).
"""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from faceattr.config import ImageLimitsConfig, PrecisionChoice
from faceattr.data.images.decode import decode_image
from faceattr.data.packed.reader import PackedData
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.open import open_store
from faceattr.data.stores.store import Store
from faceattr.errors import RunError
from faceattr.models.freezing import FrozenPrefix, freeze, split_at
from faceattr.models.multitask import MultiAttributeModel
from faceattr.models.resize import resize_for
from faceattr.models.transforms import Normalise
from faceattr.training.features.cache import (
    FeatureChunk,
    Features,
    cut_parts,
    features_uri,
    missing_parts,
    open_features,
    publish_features,
    read_feature_manifest,
    write_part,
)
from faceattr.training.features.key import FeatureKey
from faceattr.training.loop.forward import cast_to, prepare_precision

logger = logging.getLogger(__name__)
_PART_ROWS = 1_024
_FOLDER = "mirrored"  # apart from the caches of searches, whose features see no mirrored image


class PooledFeatures:
    """Maps encoded images to the pooled features of a model's backbone, the mean over the image and its mirrored copy.

    Args:
        model: model whose backbone is used; it is frozen and moved to the device.
        device: where the backbone runs.
        precision: data type of its computation.
        batch_size: images per forward pass.
        limits: limits on encoded images.
    """

    def __init__(
        self,
        model: MultiAttributeModel,
        *,
        device: torch.device,
        precision: PrecisionChoice,
        batch_size: int,
        limits: ImageLimitsConfig,
    ) -> None:
        freeze(model, "all")
        self.preprocessing = model.backbone.preprocessing
        self.num_features = model.backbone.num_features
        self.num_blocks = model.backbone.num_blocks
        self.precision = prepare_precision(precision, device)
        self._prefix: FrozenPrefix = split_at(model.eval(), "all")[0]
        self.weights_id = self._prefix.compute_weights_id()
        self._prefix.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload] # not in its stubs
        self._normalise = Normalise(self.preprocessing).to(device)
        self._device, self._batch_size, self._limits = device, batch_size, limits

    def compute(self, images: Sequence[bytes], pool: ThreadPoolExecutor) -> Tensor:
        """Returns float32 [n, F], on the CPU; images are decoded by the threads of the pool."""
        found = [torch.empty(0, self.num_features)]
        for start in range(0, len(images), self._batch_size):
            pixels = np.stack(list(pool.map(self._load, images[start : start + self._batch_size])))
            batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self._device)
            with cast_to(self.precision, self._device):
                plain = self._normalise(batch)
                both = [
                    self._prefix(each.contiguous(memory_format=torch.channels_last)).float()
                    for each in (plain, plain.flip(3))
                ]
            found.append(((both[0] + both[1]) / 2).cpu())
        return torch.cat(found)

    def _load(self, data: bytes) -> np.ndarray:
        return resize_for(decode_image(data, self._limits), self.preprocessing)


def cache_features(data: PackedData, compute: PooledFeatures, output_uri: str) -> dict[str, Features]:
    """Returns split -> features of its rows, in row order; what is missing in the cache is computed first.

    Args:
        data: the packed runs.
        compute: the backbone.
        output_uri: folder whose `mirrored/features/` holds the cache; one in object storage is copied to this machine.

    Raises:
        RunError: a file is damaged, or no features came out.
    """
    key = FeatureKey(
        weights_id=compute.weights_id,
        boundary=compute.num_blocks,
        preprocessing=compute.preprocessing,
        precision=compute.precision,
        dtype="float32",
        data_fingerprint=data.fingerprint,
    )
    uri = features_uri(join_uri(output_uri, _FOLDER), key)
    store = open_store(uri, data.storage)
    if read_feature_manifest(store) is None:
        parts = [part for split in data.splits for part in cut_parts(split, data.num_rows(split), _PART_ROWS)]
        missing = missing_parts(store, parts)
        logger.info("features parts=%d missing=%d backbone_features=%d", len(parts), len(missing), compute.num_features)
        _compute(data, compute, store, missing)
        publish_features(store, key, (compute.num_features,), parts)
    found = open_features(uri, data.storage)
    if found is None:
        raise RunError(f"{uri}: the feature cache is not complete; run the command again")
    return dict(found)


def _compute(data: PackedData, compute: PooledFeatures, store: Store, missing: Sequence[FeatureChunk]) -> None:
    with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
        for split in dict.fromkeys(part.split for part in missing):
            wanted = {part.start: part for part in missing if part.split == split}
            for start, images in _read_parts(data, split):
                if start in wanted:
                    part = wanted[start]
                    write_part(store, part, compute.compute(images, pool), "float32")
                    logger.info("features split=%s rows=%d", split, part.start + part.num_rows)


def _read_parts(data: PackedData, split: str) -> Iterator[tuple[int, list[bytes]]]:
    """Yields the index of the first row and the encoded images of each part of a split."""
    start = 0
    held: list[pa.Table] = []
    for table in data.iter_split(split, ["image"]):
        held.append(table)
        while sum(map(len, held)) >= _PART_ROWS:
            rows = pa.concat_tables(held)
            yield start, rows["image"][:_PART_ROWS].to_pylist()
            start, held = start + _PART_ROWS, [rows.slice(_PART_ROWS)]
    rest = [image for table in held for image in table["image"].to_pylist()]
    if rest:
        yield start, rest
