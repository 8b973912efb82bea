"""Pixels as an Arrow column: fixed-size binary, without a copy and without Ray's own extension type."""

import numpy as np
import pyarrow as pa


def pixels_to_arrow(pixels: np.ndarray) -> pa.Array:
    """Converts uint8 [n, size, size, 3] to a fixed-size binary array of n values, without a copy."""
    width = int(np.prod(pixels.shape[1:]))
    return pa.Array.from_buffers(pa.binary(width), len(pixels), [None, pa.py_buffer(np.ascontiguousarray(pixels))])


def pixels_from_arrow(column: pa.ChunkedArray, size_px: int) -> np.ndarray:
    """Converts a column of `pixels_to_arrow` back to uint8 [n, size, size, 3]; read-only where it has one chunk."""
    views = []
    for chunk in column.chunks:
        width = chunk.type.byte_width
        values = np.frombuffer(chunk.buffers()[1], np.uint8, len(chunk) * width, chunk.offset * width)
        views.append(values.reshape(len(chunk), size_px, size_px, 3))
    if not views:
        return np.zeros((0, size_px, size_px, 3), np.uint8)
    return views[0] if len(views) == 1 else np.concatenate(views)
