"""Lists of images: a CSV file becomes rows of a plan, or a ConfigError."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from faceattr.data.inputs.open import open_input
from faceattr.data.runs.plan import write_plan
from faceattr.errors import ConfigError
from tests.fakes.stores import MemoryStore
from tests.fuzz.target import Target

_SUFFIX = ".csv"
_WORDS = (
    b'"',
    b'""',
    b",",
    b";",
    b"\t",
    b"\r\n",
    b"\n",
    b"\xef\xbb\xbf",
    b"image_path",
    b"uri",
    b"../",
    b".jpg",
    b"s3://",
)


def run(data: bytes, suffix: str = _SUFFIX) -> None:
    """Plans the images of a list."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"list{suffix}"
        path.write_bytes(data)
        try:
            plan = write_plan(MemoryStore(), open_input(str(path)).tables)
        except ConfigError as error:
            assert str(error).strip()  # noqa: PT017
        else:
            assert plan.num_rows >= 0


def seeds() -> Iterable[bytes]:
    """Dialects, quotes, line ends and encodings."""
    yield b"image_path\na.jpg\nb.jpg\n"
    yield b'image_path,age,note\r\na.jpg,3,x\r\nb.jpg,,"a, b"\r\n'
    yield b"uri;hat\na.jpg;1\nb/c.png;0\n"
    yield b"path\tn\na.jpg\t1\n"
    yield b'\xef\xbb\xbfimage_path,"a ""b"""\n"c\nd.jpg",1\n'
    yield "image_path\n\u00fc.jpg\n".encode("utf-16")
    yield "image_path,n\n\u00fc.jpg,\u00e9\n".encode("latin-1")
    yield b"image_path\n"
    yield b"a.jpg\nb.jpg\n"


TARGET = Target(run=run, seeds=seeds, words=_WORDS)
