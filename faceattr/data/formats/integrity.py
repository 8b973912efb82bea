"""Compares bytes with what was recorded when they were written: size, sha256, and sha256 of a Parquet footer.

Files that are read whole are hashed while they are decoded (1.2 GB/s per core: faster than decoding). For files that
are read by row groups, only the footer, a few kB, is hashed, and Parquet's page checksums cover the rest: of 11,562
single-bit flips in a packed shard, only those in the footer changed values or ended the process; see
tests/data/test_integrity.py.
"""

import hashlib
from typing import Protocol

from faceattr.errors import RunError

REMEDY = "restore it from a backup, or create it again"
_MAGIC = b"PAR1"
_TRAILER_BYTES = 8  # size of the footer, little-endian, and the magic


class _File(Protocol):
    def size(self) -> int: ...
    def seek(self, place: int, /) -> int: ...
    def read(self, num_bytes: int, /) -> bytes: ...


def hash_bytes(data: bytes) -> str:
    """Returns the hexadecimal sha256."""
    return hashlib.sha256(data).hexdigest()


def hash_footer(data: bytes) -> str:
    """Returns the hexadecimal sha256 of a whole Parquet file's footer, for `check_footer`."""
    return hash_bytes(data[-_footer_bytes(data[-_TRAILER_BYTES:]) :])


def check_whole(data: bytes, where: str, *, num_bytes: int | None, sha256: str | None) -> None:
    """Raises RunError unless these are the bytes of the whole file; a value that was not recorded (None) is skipped."""
    if num_bytes is not None:
        check_size(len(data), where, num_bytes)
    if sha256 is not None:
        check_hash(hash_bytes(data), where, sha256)


def check_size(found: int, where: str, expected: int) -> None:
    """Raises RunError unless a file has the recorded size, in bytes."""
    if found != expected:
        raise RunError(f"{where} is damaged: it has {found:,} bytes, and had {expected:,} when written; {REMEDY}")


def check_hash(found: str, where: str, expected: str) -> None:
    """Raises RunError unless a file, or its footer, has the recorded hash."""
    if found != expected:
        raise RunError(f"{where} is damaged: its sha256 is {found}, and was {expected} when written; {REMEDY}")


def check_footer(file: _File, where: str, *, num_bytes: int, sha256: str | None) -> None:
    """Checks the size of an open Parquet file, and its footer if its hash was recorded; leaves the file at its start.

    Call it before the file is parsed: a damaged footer can end the process.

    Raises:
        RunError: the file differs from what was written.
    """
    size = file.size()
    check_size(size, where, num_bytes)
    if sha256 is None:
        return
    file.seek(size - _TRAILER_BYTES)
    trailer = file.read(_TRAILER_BYTES)
    length = _footer_bytes(trailer)
    if trailer[-len(_MAGIC) :] != _MAGIC or length > size:
        raise RunError(f"{where} is damaged: it does not end as a Parquet file does; {REMEDY}")
    file.seek(size - length)
    found = hash_bytes(file.read(length))
    file.seek(0)
    if found != sha256:
        raise RunError(
            f"{where} is damaged: the sha256 of its footer is {found}, and was {sha256} when written; {REMEDY}"
        )


def _footer_bytes(trailer: bytes) -> int:
    return int.from_bytes(trailer[:4], "little") + _TRAILER_BYTES
