"""Whether a file ends before what its own structure announces, where the decoder's error does not tell."""

import struct
from collections.abc import Iterator

import numpy as np

_GIF_HEADER_BYTES = 13
_MOST_TIFF_TAGS = 65_535  # what a plain TIFF can have; a BigTIFF could announce more
_STRIP_OFFSETS, _TILE_OFFSETS = 273, 324
# Bytes of a value of a TIFF tag by its type: TIFF 6.0, section 2; 13 and 16 to 18 of supplement 1 and BigTIFF.
_TIFF_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


def ends_early(data: bytes, image_format: str) -> bool:
    """Whether a file of this format, which a decoder refused, is cut; False if nothing proves it."""
    if image_format in ("AVIF", "HEIF"):
        return is_cut_in_boxes(data)
    if image_format == "TIFF":
        return _is_cut_tiff(data)
    return image_format == "GIF" and len(data) < _GIF_HEADER_BYTES


def is_cut_in_boxes(data: bytes) -> bool:
    """Whether an HEIF or AVIF ends inside its index, `meta`, or inside a box after it.

    A file is a sequence of boxes: 4 bytes size, 4 bytes type, content; with size 1 the size follows in 8 bytes, with
    size 0 the box extends to the end (ISO/IEC 14496-12, 4.2).
    """
    position, has_index = 0, False
    while position + 8 <= len(data):
        size, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        if size == 1:
            size = int.from_bytes(data[position + 8 : position + 16], "big")
        if size < 8:
            return False
        position += size
        has_index |= kind == b"meta"
    return has_index and position != len(data)


def _is_cut_tiff(data: bytes) -> bool:
    """Whether the first directory, a value that it points to, or a strip or tile begins beyond the end."""
    order = "<" if data[:1] == b"I" else ">"
    try:
        return any(start + num_bytes > len(data) for start, num_bytes in _tiff_parts(data, order))
    except (struct.error, OverflowError):  # the header or the directory itself; a BigTIFF's place may pass 2**63
        return True


def _tiff_parts(data: bytes, order: str) -> Iterator[tuple[int, int]]:
    """Yields start and bytes of values outside of the directory, and of the last strip or tile the start alone."""
    (magic,) = struct.unpack_from(f"{order}H", data, 2)
    word, count_word = ("Q", "Q") if magic == 43 else ("I", "H")
    room = struct.calcsize(word)
    (place,) = struct.unpack_from(f"{order}{word}", data, 8 if magic == 43 else 4)
    (count,) = struct.unpack_from(f"{order}{count_word}", data, place)
    place += struct.calcsize(count_word)
    for _ in range(min(count, _MOST_TIFF_TAGS)):
        tag, kind, length = struct.unpack_from(f"{order}HH{word}", data, place)
        start, num_bytes = place + 4 + room, length * _TIFF_BYTES.get(kind, 1)
        if num_bytes > room:
            (start,) = struct.unpack_from(f"{order}{word}", data, start)
            yield start, num_bytes
        if tag in (_STRIP_OFFSETS, _TILE_OFFSETS) and kind in (3, 4, 16) and start + num_bytes <= len(data):
            offsets = np.frombuffer(data, f"{order}u{_TIFF_BYTES[kind]}", length, start)
            yield int(offsets.max(initial=0)), 1
        place += 4 + 2 * room
