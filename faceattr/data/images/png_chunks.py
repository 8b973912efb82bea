"""PNG chunks: which ones the pixels and their orientation need; other metadata are dropped.

A decoder that reads metadata refuses an image because of a colour profile of two megabytes, or a checksum that a text
editor did not update, although the pixels are intact. Damaged metadata are ignored here, as viewers do.
"""

import struct
import zlib
from collections.abc import Iterator

from faceattr.errors import ImageError

_SIGNATURE_BYTES = 8
_FRAME_BYTES = 12  # length and type before the content, checksum after it
# Transparency, orientation, and the position of an animation's first frame.
_NEEDED = frozenset([b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT"])
_TEXTS = frozenset([b"tEXt", b"zTXt", b"iTXt"])
# Texts that can contain an orientation.
_ORIENTED = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0", b"Raw profile type APP1\0")
_MAX_TEXT_BYTES = 2**16
# A compressed text of that size can inflate to at most a thousand times as much.
_MAX_INFLATED_BYTES = 2**20
# A file of nothing but empty chunks takes seconds. Encoders write pixels in chunks of 8 KB or more.
_MOST_CHUNKS = 200_000


def without_metadata(data: bytes) -> bytes | None:
    """Returns the PNG with only the chunks that its picture needs; None if it ends inside a chunk.

    Raises:
        ImageError: `unsupported`: too many chunks.
    """
    kept, is_whole, num_dropped = [(0, _SIGNATURE_BYTES)], False, 0
    for number, (kind, start, end) in enumerate(_chunks(data)):
        if number == _MOST_CHUNKS:
            raise ImageError("unsupported", f"PNG of more than {_MOST_CHUNKS:,} chunks")
        if end > len(data):
            break
        if _is_kept(data, kind, start, end):
            kept.append((start, end))
        else:
            num_dropped += 1
        is_whole = kind == b"IEND"
    if not is_whole:
        return None
    return b"".join(data[start:end] for start, end in kept) if num_dropped else data


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yields type, start and end of the chunks, up to IEND or the end of the data."""
    position, kind = _SIGNATURE_BYTES, b""
    while kind != b"IEND" and position + _FRAME_BYTES <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        yield kind, position, position + _FRAME_BYTES + length
        position += _FRAME_BYTES + length


def _is_kept(data: bytes, kind: bytes, start: int, end: int) -> bool:
    is_critical = not kind[0] & 0x20
    if is_critical:
        return True
    if kind in _TEXTS:
        if end - start > _MAX_TEXT_BYTES or not data.startswith(_ORIENTED, start + 8):
            return False
        if not _is_small_when_inflated(data, kind, start + 8, end - 4):
            return False
    elif kind not in _NEEDED:
        return False
    return zlib.crc32(data[start + 4 : end - 4]) == int.from_bytes(data[end - 4 : end], "big")


def _is_small_when_inflated(data: bytes, kind: bytes, start: int, end: int) -> bool:
    if kind == b"tEXt":
        return True
    after_keyword = data.index(b"\0", start, end) + 1
    if kind == b"iTXt":
        return data[after_keyword : after_keyword + 1] == b"\0"  # not compressed, as XMP demands
    inflate = zlib.decompressobj()
    try:
        inflate.decompress(data[after_keyword + 1 : end], _MAX_INFLATED_BYTES - 1)
    except zlib.error:
        return False
    return not inflate.unconsumed_tail
