"""What a run makes of a folder: its own listing, plan, reading and decoding, one after the other."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from faceattr.config import ImageLimitsConfig, StorageConfig
from faceattr.data.images.decoder import process_decoder
from faceattr.data.inputs.open import open_input
from faceattr.data.runs.plan import read_part, write_plan
from faceattr.data.stores.local import LocalStore
from faceattr.jobs.images.decode import DecodeImages, Resizer
from faceattr.jobs.images.read import ReadImages

POINTS = 8
"""Pixels per side that are looked at; none is next to the border of two quadrants."""
DEADLINE_S = 10.0
LIMITS = ImageLimitsConfig()


@dataclass(frozen=True)
class Outcome:
    """The row of one file.

    Attributes:
        status: `ok` or a reason.
        error: details of a reason.
        width: in pixels; None where nothing was decoded.
        height: likewise.
        points: uint8 [8, 8, 3], pixels at equal distances.
    """

    status: str
    error: str | None
    width: int | None
    height: int | None
    points: npt.NDArray[np.uint8]


def look_at(image: npt.NDArray[np.uint8], points: int) -> npt.NDArray[np.uint8]:
    """Pixels in the middle of each of points x points fields, in place of a model's resizing."""
    height, width = image.shape[:2]
    places = (np.arange(points) * 2 + 1) / (2 * points)
    return image[(places * height).astype(int)][:, (places * width).astype(int)]


def read_folder(uri: str) -> Mapping[str, Outcome]:
    """File name to outcome, of every row of a folder or another input."""
    source = open_input(uri)
    read = ReadImages(source.root, StorageConfig(), LIMITS)
    decode = DecodeImages(LIMITS, DEADLINE_S, Resizer("tests.zoo.outcome:look_at", POINTS, POINTS))
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        store = LocalStore(Path(scratch))
        plan = write_plan(store, source.tables)
        for part in plan.parts:
            for block in read(read_part(store, part)):
                for rows in decode(block):
                    found |= _outcomes(rows)
    return found


def _outcomes(rows: pa.Table) -> dict[str, Outcome]:
    pixels = [np.frombuffer(value.as_py(), np.uint8).reshape(POINTS, POINTS, 3) for value in rows["pixels"]]
    facts = zip(*(rows[name].to_pylist() for name in ("status", "error", "width_px", "height_px")), pixels, strict=True)
    return {name: Outcome(*each) for name, each in zip(rows["image_id"].to_pylist(), facts, strict=True)}


def _decoder_process() -> Path:
    return Path(f"/proc/{process_decoder(LIMITS, deadline_s=DEADLINE_S).child_pid}")


def forget_peak() -> None:
    """Begins a new measurement of `decoder_peak_bytes`, where a decoding child runs already."""
    if _decoder_process().name != "None":
        (_decoder_process() / "clear_refs").write_text("5")


def decoder_peak_bytes() -> int:
    """The most memory that this process's decoding child held, with what it shares with its parent."""
    lines = (_decoder_process() / "status").read_text().splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(kib) * 1024
