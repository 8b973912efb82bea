"""Parquet files: lists of images and packed images become rows of a plan, or a ConfigError."""

from collections.abc import Iterable

import pyarrow as pa

from tests.data.input_rows import parquet
from tests.fuzz.manifests import run as run_list
from tests.fuzz.target import Target

_WORDS = (b"PAR1", b"image", b"uri", b"bytes")


def run(data: bytes) -> None:
    """Plans the images of a Parquet file."""
    run_list(data, suffix=".parquet")


def seeds() -> Iterable[bytes]:
    """A list, packed images, and dictionaries."""
    yield parquet({"uri": ["a.jpg", "b.jpg"]})
    plain = parquet({"uri": ["a.jpg"], "age": [3], "hat": [None]})
    yield plain
    wide = plain.replace(b"AAAAAAAAFAAAAAEAAUAAg", b"AAAAAAAAFAHAAAEAAUAAg", 1)  # its Arrow schema, in base64
    assert wide != plain
    yield wide  # an integer of more than 64 bits, which pyarrow tells as not implemented
    yield parquet({"uri": pa.array([b"\xff.jpg"], pa.binary()).view(pa.string())})  # not UTF-8
    yield parquet({"image": [b"1", b"22"], "image_id": ["x", "y"]})
    yield parquet({"image": [{"bytes": b"1", "path": "a.jpg"}]})


TARGET = Target(run=run, seeds=seeds, words=_WORDS)
