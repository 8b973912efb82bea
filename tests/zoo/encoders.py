"""Writers of PNG, TIFF and BMP from samples, independent of Pillow: it cannot write half of what it can read."""

import io
import itertools
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from tests.zoo.kinds import CORNERS, quadrants

Samples = npt.NDArray[np.uint16]
PNG_START = b"\x89PNG\r\n\x1a\n"
GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def drawing(mode: str = "RGB") -> Image.Image:
    """The zoo's picture, for formats that Pillow writes."""
    return Image.fromarray(quadrants(CORNERS).astype(np.uint8)).convert(mode)


def saved(image: Image.Image, image_format: str, **options: object) -> bytes:
    """What Pillow writes."""
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def packed(samples: Samples, depth: int) -> bytes:
    """Rows of samples of `depth` bits, the highest bit first, each row filled up to whole bytes."""
    flat = samples.reshape(len(samples), -1)
    if depth == 16:
        return flat.astype(">u2").tobytes()
    bits = (flat[:, :, np.newaxis] >> np.arange(depth - 1, -1, -1)) & 1
    return np.packbits(bits.reshape(len(flat), -1).astype(np.uint8), axis=1).tobytes()


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(samples: Samples, depth: int, colour: int, *, interlaced: bool = False, before: bytes = b"") -> bytes:
    """A PNG of samples [height, width, channels]; `before` are chunks between header and pixels."""
    height, width = samples.shape[:2]
    passes = [samples[y::dy, x::dx] for x, y, dx, dy in _ADAM7] if interlaced else [samples]
    lines = [b"\0" + packed(row[np.newaxis], depth) for part in passes if part.size for row in part]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))
    return PNG_START + header + before + chunk(b"IDAT", zlib.compress(b"".join(lines))) + chunk(b"IEND", b"")


def tiff(
    strips: Sequence[bytes],
    tags: dict[int, Sequence[int]],
    *,
    order: str = "<",
    big: bool = False,
    strip_tags: tuple[int, int] = (273, 279),
) -> bytes:
    """A TIFF of one directory: the strips (or tiles), then the directory, then values that do not fit into it.

    Args:
        strips: what the file holds of the picture, in order.
        tags: tag to its values; those above 65,535 are written with 32 bits.
        order: `<` for II, `>` for MM.
        big: BigTIFF, with offsets of 64 bits.
        strip_tags: tags of the offsets and byte counts of the strips.
    """
    start = 16 if big else 8
    *offsets, _ = itertools.accumulate(map(len, strips), initial=start)
    entries = {**tags, strip_tags[0]: offsets, strip_tags[1]: [len(strip) for strip in strips]}
    body = b"".join(strips)
    body += b"\0" * (len(body) % 2)
    word, count, room = ("Q", "Q", 8) if big else ("I", "H", 4)
    place = start + len(body)
    beyond_at = place + struct.calcsize(f"{order}{count}") + len(entries) * (20 if big else 12) + room
    directory, beyond = struct.pack(f"{order}{count}", len(entries)), b""
    for tag, values in sorted(entries.items()):
        wide = max(values) > 0xFFFF or tag in strip_tags
        content = struct.pack(f"{order}{len(values)}{'I' if wide else 'H'}", *values)
        if len(content) > room:
            pointer = struct.pack(f"{order}{word}", beyond_at + len(beyond))
            beyond += content + b"\0" * (len(content) % 2)
            content = pointer
        directory += struct.pack(f"{order}HH{word}", tag, 4 if wide else 3, len(values)) + content.ljust(room, b"\0")
    directory += bytes(room)
    sign = b"II" if order == "<" else b"MM"
    head = struct.pack(f"{order}HHHQ", 43, 8, 0, place) if big else struct.pack(f"{order}HI", 42, place)
    return sign + head + body + directory + beyond


def tiff_of(samples: Samples, depth: int, photometric: int, *, order: str = "<", **tags: Sequence[int]) -> bytes:
    """An uncompressed TIFF of one strip; further tags are given as `t338=[2]`."""
    height, width, channels = samples.shape
    body = samples.astype(f"{order}u2").tobytes() if depth == 16 else packed(samples, depth)
    entries: dict[int, Sequence[int]] = {256: [width], 257: [height], 258: [depth] * channels, 259: [1]}
    entries |= {262: [photometric], 277: [channels], 278: [height]}
    entries |= {int(name[1:]): values for name, values in tags.items()}
    return tiff([body], entries, order=order)


def bmp(
    rows: bytes,
    depth: int,
    *,
    palette: bytes = b"",
    compression: int = 0,
    masks: bytes = b"",
    height: int = 32,
    width: int = 64,
    header_bytes: int = 40,
) -> bytes:
    """A BMP with a header of 40 bytes (or more, filled with `masks` and zeros); `rows` are as stored."""
    colours = len(palette) // 4
    info = struct.pack("<IiiHHIIiiII", header_bytes, width, height, 1, depth, compression, len(rows), 0, 0, colours, 0)
    info = (info + masks).ljust(header_bytes, b"\0")
    start = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + info + palette + rows
