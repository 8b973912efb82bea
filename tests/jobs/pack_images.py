"""Images to pack, and what was packed."""

import io

import numpy as np
from PIL import Image

from faceattr.data.runs.version import read_published
from faceattr.data.stores.open import open_store


def picture(number: int, size=(12, 10)) -> bytes:
    """A PNG that no other number gives."""
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_images(root, names):
    """Images by name; a name with a number gets that number's picture, one with bytes those."""
    store = open_store(str(root))
    for name, content in names.items():
        store.put(name, picture(content) if isinstance(content, int) else content)
    return store


def rows_of(uri) -> dict[str, dict]:
    """All rows of the table, rejected ones too, by image id; none may stand twice."""
    rows = [row for table in read_published(open_store(str(uri))) for row in table.to_pylist()]
    found = {row["image_id"]: row for row in rows}
    assert len(found) == len(rows)
    return found
