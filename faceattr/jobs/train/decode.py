"""The last stage of a training's image stream: encoded rows -> pixels, as they are or as random views."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
import torch

from faceattr.config import ImageLimitsConfig
from faceattr.config.augmentation import Augmentation
from faceattr.data.images.decode import decode_image
from faceattr.errors import ImageError, RunError
from faceattr.jobs.cluster.milestones import reach
from faceattr.jobs.cluster.pixel_column import pixels_to_arrow
from faceattr.jobs.train.stages import IMAGE, POSITION, Epoch
from faceattr.models.augment.draws import image_seed
from faceattr.models.augment.train import AS_STORED, TrainTransform
from faceattr.models.backbones.preprocessing import Preprocessing

PIXELS = "pixels"
SEED = "seed"
# No further limits: the packed run's own limits were applied when it was made.
_LIMITS = ImageLimitsConfig(max_bytes=2**31, max_pixels=89_478_485)
# Images decoded at the same time; stored images may be much larger than the network's input.
_DECODED_IMAGES = 16


@dataclass(frozen=True, kw_only=True)
class DecodeRows:
    """Rows with `image` -> rows with `pixels`: uint8 [3, S, S] as fixed-size binary.

    The images were decoded once when they were packed, so they are decoded here without a child process.

    Attributes:
        preprocessing: preprocessing of the backbone.
        augmentation: augmentation of training images; None for validation.
        epoch: epoch of training images; None for validation.
        crops_only: leave what follows the crop to the worker, which needs the column `seed` for it: on a GPU it costs
            next to nothing, on a CPU as much as decoding.
    """

    preprocessing: Preprocessing
    augmentation: Augmentation | None = None
    epoch: Epoch | None = None
    crops_only: bool = False

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Decodes, augments and resizes a block of rows."""
        reach("decoder", "imports done")
        torch.set_num_threads(1)  # many tasks run at the same time
        transform = TrainTransform(self.preprocessing, self.augmentation or AS_STORED)
        seeds = self._seeds(rows)
        encoded = (data.as_py() for data in rows[IMAGE])
        pixels = decode_views(
            encoded, transform.crop if self.crops_only else transform, seeds, size_px=self.preprocessing.size_px
        )
        reach("decoder", "first block")
        table = rows.drop_columns([IMAGE]).append_column(PIXELS, pixels_to_arrow(pixels))
        return table.append_column(SEED, pa.array(seeds, pa.int64())) if self.crops_only else table

    def _seeds(self, rows: pa.Table) -> list[int]:
        epoch = self.epoch
        if epoch is None:
            return [0] * len(rows)
        return [image_seed(epoch.seed, epoch=epoch.number, row=row) for row in rows[POSITION].to_pylist()]


def decode_views(
    encoded: Iterable[bytes], transform: Callable[..., torch.Tensor], seeds: Sequence[int], *, size_px: int
) -> np.ndarray:
    """Decodes packed images and transforms them, a few at a time.

    Args:
        encoded: the bytes of n images.
        transform: a `TrainTransform`, or its `crop`.
        seeds: seed of each image.
        size_px: side S of the views.

    Returns:
        uint8 [n, 3, S, S].

    Raises:
        RunError: the bytes of an image can no longer be decoded.
    """
    views = np.empty((len(seeds), 3, size_px, size_px), np.uint8)
    images = iter(encoded)
    for start in range(0, len(seeds), _DECODED_IMAGES):
        part = slice(start, start + _DECODED_IMAGES)
        decoded = [_decode(data) for data in islice(images, _DECODED_IMAGES)]
        views[part] = transform(decoded, seeds=seeds[part]).numpy()
    return views


def _decode(data: bytes) -> torch.Tensor:
    """Decodes a packed image: encoded bytes -> uint8 [3, H, W]."""
    try:
        pixels = decode_image(data, _LIMITS)
    except ImageError as error:
        raise RunError(f"a packed image can no longer be decoded: {error}; pack again") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)
