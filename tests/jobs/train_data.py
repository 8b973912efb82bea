"""Packed runs whose images can be told apart by their pixels, and learnt from by their colour."""

import io
from typing import Any

import numpy as np
from PIL import Image

from faceattr.attributes import Attribute, AttributeSet
from tests.packed_runs import write_packed_run

SIZE = 32
HAT = Attribute(name="hat")
TONE = Attribute(name="tone", kind="multiclass", classes=("dark", "middle", "light"))
AGE = Attribute(name="age", kind="age", classes=())
ATTRIBUTES = AttributeSet(attributes=(HAT, TONE, AGE))
# A small model without batch norm or dropout, on images as they are.
TINY = [
    *("--model.backbone", "test_vit", "--model.no-pretrained", "--model.image-size", str(SIZE)),
    *("--model.args", "depth", "1", "--ray.no-dashboard"),
]


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def numbered_row(number: int, **labels: Any) -> dict[str, Any]:
    """A plain image whose first two channels are the row's number."""
    pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
    pixels[:] = (number % 256, number // 256, 0)
    return {"image": png(pixels), "hat": number % 2, **labels}


def coloured_row(rng: np.random.Generator) -> dict[str, Any]:
    """An image whose red tells the hat, whose green the tone, whose blue the age; one label in five is missing."""
    red, green, blue = rng.integers(20, 236, 3)
    noise = rng.integers(-20, 20, (SIZE, SIZE, 3))
    pixels = (np.array([red, green, blue]) + noise).astype(np.uint8)
    row: dict[str, Any] = {"image": png(pixels)}
    known = rng.random(3) > 0.2
    if known[0]:
        row["hat"] = int(red > 128)
    if known[1]:
        row["tone"] = min(2, int(green) // 80)
    if known[2]:
        row |= {"age_low": float(blue // 4), "age_high": float(blue // 4 + 1)}
    return row


def write_coloured(uri: Any, *, train: int, val: int, seed: int = 0) -> str:
    rng = np.random.default_rng(seed)
    rows = {"train": [coloured_row(rng) for _ in range(train)], "val": [coloured_row(rng) for _ in range(val)]}
    return write_packed_run(uri, ATTRIBUTES, rows, shard_size=16)
