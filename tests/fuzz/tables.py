"""Parquet files: lists of images and packed images become rows of a plan, or a ConfigError."""

from collections.abc import Iterable

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
    yield parquet({"uri": ["a.jpg"], "age": [3], "hat": [None]})
    yield parquet({"image": [b"1", b"22"], "image_id": ["x", "y"]})
    yield parquet({"image": [{"bytes": b"1", "path": "a.jpg"}]})


TARGET = Target(run=run, seeds=seeds, words=_WORDS)
