"""The stage between reading and the model: encoded bytes -> pixels of the model's size."""

import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from faceattr.config import ImageLimitsConfig
from faceattr.data.images.decoder import process_decoder
from faceattr.data.images.face_view import FaceView
from faceattr.data.runs.commit import OK
from faceattr.errors import ImageError
from faceattr.inference.detect import Face
from faceattr.inference.faces import face_columns, view_each
from faceattr.jobs.cluster.milestones import reach
from faceattr.jobs.cluster.pixel_column import pixels_to_arrow
from faceattr.jobs.images.read import append_columns

# Encoded images that the decoder gets at a time.
_DECODE_IMAGES = 32
_DECODE_BYTES = 2 * 2**20
# Pixel bytes, at the model's size, in one table that is passed on.
_TABLE_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Resizer:
    """The name of a function: (uint8 [H, W, 3], argument) -> uint8 [size_px, size_px, 3].

    A name, so that a driver, which only sends it on, need not import torch.
    """

    function: str
    argument: Any
    size_px: int

    def resolve(self) -> Callable[[np.ndarray], np.ndarray]:
        """Returns the function, imported in this process."""
        resize = pkgutil.resolve_name(self.function)
        return lambda image: resize(image, self.argument)


@dataclass(frozen=True)
class DecodeImages:
    """Rows with `data` -> rows with `pixels`: uint8 RGB [size_px, size_px, 3] as fixed-size binary, zeros for bad rows.

    Images are decoded in a disposable child process; resizing is the model's own. With `faces`, the model sees that
    view of an image, and rows have the columns of `faceattr.data.label_columns.FACE_FIELDS`.
    """

    limits: ImageLimitsConfig
    timeout_s: float
    resizer: Resizer
    faces: FaceView | None = None
    table_bytes: int = _TABLE_BYTES

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        """Decodes and resizes a block of rows; yields tables whose pixels have about `table_bytes` bytes."""
        step = max(1, self.table_bytes // (3 * self.resizer.size_px**2))
        for start in range(0, max(1, len(rows)), step):
            yield self._decode(rows.slice(start, step))

    def _decode(self, rows: pa.Table) -> pa.Table:
        resize, size = self.resizer.resolve(), self.resizer.size_px
        reach("decoder", "imports done")
        decoder = process_decoder(self.limits, deadline_s=self.timeout_s)
        status, error = rows["status"].to_pylist(), rows["error"].to_pylist()
        sizes: list[tuple[int | None, int | None]] = [(None, None)] * len(rows)
        pixels = np.zeros((len(rows), size, size, 3), np.uint8)
        found: list[Face | None] = [None] * len(rows)
        readable = [place for place, value in enumerate(status) if value == OK]
        for places, encoded in _decode_batches(readable, rows["data"]):
            views = view_each(decoder.decode_each(encoded), self.faces)
            for place, (decoded, seen) in zip(places, views, strict=True):
                if decoded is not None:
                    sizes[place] = decoded.shape[1], decoded.shape[0]
                if isinstance(seen, ImageError):
                    status[place], error[place] = seen.reason, seen.detail
                    continue
                pixels[place], found[place] = resize(seen.pixels), seen.face
        reach("decoder", "first block")
        kept = rows.drop_columns(["data", "status", "error"])
        return append_columns(
            kept,
            width_px=pa.array([width for width, _ in sizes], pa.int32()),
            height_px=pa.array([height for _, height in sizes], pa.int32()),
            status=pa.array(status),
            error=pa.array(error, pa.string()),
            pixels=pixels_to_arrow(pixels),
            **({} if self.faces is None else face_columns(found)),
        )


def _decode_batches(places: list[int], data: pa.ChunkedArray) -> Iterator[tuple[list[int], list[bytes]]]:
    """Yields places and encoded images, a few at a time."""
    batch: tuple[list[int], list[bytes]] = ([], [])
    num_bytes = 0
    for place in places:
        image = data[place].as_py()
        if batch[0] and (len(batch[0]) == _DECODE_IMAGES or num_bytes + len(image) > _DECODE_BYTES):
            yield batch
            batch, num_bytes = ([], []), 0
        batch[0].append(place)
        batch[1].append(image)
        num_bytes += len(image)
    if batch[0]:
        yield batch
