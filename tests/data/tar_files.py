"""Tar files for tests, written by the standard library, which is the reference for what they hold."""

import io
import tarfile
from collections.abc import Iterable


def write_tar(members: Iterable[tuple[str, bytes]], tar_format: int = tarfile.USTAR_FORMAT) -> bytes:
    """Returns a tar file with the members in this order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def data_offsets(data: bytes) -> dict[str, int]:
    """Returns the byte where each member's data begins, by the standard library."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        return {member.name: member.offset_data for member in tar}
