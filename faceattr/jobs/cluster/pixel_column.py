"""Pixels as an Arrow column: fixed-size binary, without a copy and without a type of Ray's own."""

import numpy as np
import pyarrow as pa


def pixels_to_arrow(pixels: np.ndarray) -> pa.Array:
    """uint8 [n, size, size, 3] as a fixed-size binary array, without a copy."""
    width = int(np.prod(pixels.shape[1:]))
    return pa.Array.from_buffers(pa.binary(width), len(pixels), [None, pa.py_buffer(np.ascontiguousarray(pixels))])


def pixels_from_arrow(column: pa.ChunkedArray, size_px: int) -> np.ndarray:
    """Inverse of pixels_to_arrow; read-only where the column is one chunk."""
    views = []
    for chunk in column.chunks:
        width = chunk.type.byte_width
        values = np.frombuffer(chunk.buffers()[1], np.uint8, len(chunk) * width, chunk.offset * width)
        views.append(values.reshape(len(chunk), size_px, size_px, 3))
    if not views:
        return np.zeros((0, size_px, size_px, 3), np.uint8)
    return views[0] if len(views) == 1 else np.concatenate(views)
