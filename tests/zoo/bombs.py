"""Small files that announce or unfold into far too much, and files that are mostly metadata."""

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tests.zoo.encoders import GRAY, PNG_START, RGB, bmp, chunk, drawing, packed, png, saved, tiff, tiff_of
from tests.zoo.kinds import CORNERS, HEIGHT, LOSSY, WIDTH, Kind, Picture, gray, quadrants, reasons
from tests.zoo.others import on_screen

MIB = 2**20
_METADATA_BYTES = 30 * MIB
_TIFF_START = b"II\x2a\0\x08\0\0\0\0\0"


def _header(width: int, height: int, depth: int = 8, colour: int = RGB) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def _deflated_zeros(num_bytes: int) -> bytes:
    deflate = zlib.compressobj(9)
    piece = bytes(MIB)
    return b"".join(deflate.compress(piece) for _ in range(num_bytes // MIB)) + deflate.flush()


def _inside(data: bytes, place: int, what: bytes) -> bytes:
    return data[:place] + what + data[place:]


def _app(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _jpeg(**options: object) -> bytes:
    return saved(drawing(), "JPEG", quality=95, **options)


def _png() -> bytes:
    return png(quadrants(CORNERS), 8, RGB)


def _many_scans(width: int, height: int, count: int) -> bytes:
    data = saved(Image.new("L", (width, height), 128), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    return data[:-2] + data[start:-2] * count + data[-2:]


def sizes() -> Iterator[Kind]:
    """Too many pixels, by the header or by the frame in it."""
    refused = reasons("too_many_pixels")

    def bomb(name: str, what: str, make, expected=refused, **more: object) -> Kind:
        return Kind(name=f"bomb-{name}", what=what, make=make, expected=expected, **more)

    yield bomb(
        "pixels.png",
        "PNG of 10,000 x 10,000 pixels in 12 KB",
        lambda: (
            PNG_START
            + _header(10_000, 10_000, 1, GRAY)
            + chunk(b"IDAT", _deflated_zeros(12 * MIB))
            + chunk(b"IEND", b"")
        ),
    )
    yield bomb("pixels.gif", "GIF of 65,535 x 65,535 pixels", lambda: on_screen(_gif(), 65_535, 65_535))
    yield bomb("frame.gif", "GIF whose frame is larger than its screen, 65,535 x 65,535 pixels", _wide_frame)
    yield bomb("pixels.webp", "WebP of 16,383 x 16,383 pixels", _wide_webp)
    yield bomb("pixels.tif", "TIFF of 1,000,000 x 1,000,000 pixels", lambda: _tiff_size(1_000_000, 1_000_000))
    yield bomb("pixels.bmp", "BMP of 60,000 x 60,000 pixels", lambda: bmp(b"\0" * 99, 24, width=60_000, height=60_000))
    yield bomb(
        "rle.bmp",
        "BMP of run lengths, 2,147,483,647 pixels a side",
        lambda: bmp(b"\0\1", 8, palette=bytes(1024), compression=1, width=2**31 - 1, height=2**31 - 1),
    )
    yield bomb(
        "pixels.jpg",
        "JPEG of 65,500 x 65,500 pixels",
        lambda: _jpeg().replace(struct.pack(">HH", HEIGHT, WIDTH), b"\xff\xdc\xff\xdc", 1),
    )
    yield bomb(
        "no-height.jpg",
        "JPEG without a height",
        lambda: _jpeg().replace(struct.pack(">HH", HEIGHT, WIDTH), b"\0\0\0\x40", 1),
        reasons("corrupt", "unsupported"),
    )
    yield bomb("no-width.png", "PNG without a width", lambda: _sized(0, 32), reasons("corrupt"))
    yield bomb("wide.png", "PNG of 2,147,483,647 x 1 pixels", lambda: _sized(2**31 - 1, 1))
    yield bomb(
        "thin.png",
        "PNG of 100,000 x 2 pixels",
        lambda: png(quadrants(CORNERS, width=100_000, height=2), 8, RGB),
        Picture(width=100_000, height=2),
    )
    yield bomb(
        "one.png",
        "PNG of one pixel",
        lambda: png(quadrants([CORNERS[0]] * 4, width=1, height=1), 8, RGB),
        Picture(corners=(CORNERS[0],) * 4, width=1, height=1),
    )
    yield bomb(
        "inflate.png",
        "PNG of 64 x 32 pixels that inflates to 1 GiB",
        lambda: (
            PNG_START + _header(64, 32, 8, GRAY) + chunk(b"IDAT", _deflated_zeros(1024 * MIB)) + chunk(b"IEND", b"")
        ),
        Picture(corners=gray(0, 0, 0, 0)),
        is_long=True,
    )
    flat = Picture(corners=gray(*[128] * 4), width=7_000, height=7_000, tolerance=2)
    yield bomb(
        "largest.jpg",
        "JPEG of 49,000,000 pixels, within the limit",
        lambda: saved(Image.new("RGB", (7_000, 7_000), (128,) * 3), "JPEG"),
        flat,
        is_long=True,
    )
    yield bomb(
        "largest.png",
        "PNG of 49,000,000 pixels, within the limit",
        lambda: saved(Image.new("RGB", (7_000, 7_000), (128,) * 3), "PNG", compress_level=1),
        flat,
        is_long=True,
    )
    yield bomb(
        "largest-alpha.png",
        "PNG with alpha of 49,000,000 pixels",
        lambda: saved(Image.new("RGBA", (7_000, 7_000), (128, 128, 128, 255)), "PNG", compress_level=1),
        flat,
        is_long=True,
    )
    yield bomb(
        "largest-16.png",
        "PNG of 49,000,000 pixels of 16 bits",
        lambda: png(np.full((7_000, 7_000, 1), 128 * 257, np.uint16), 16, GRAY),
        flat,
        is_long=True,
    )
    yield bomb(
        "largest.webp",
        "WebP of 49,000,000 pixels, within the limit",
        lambda: saved(Image.new("RGB", (7_000, 7_000), (128,) * 3), "WEBP", quality=1, method=0),
        flat,
        is_long=True,
    )


def _wide_frame() -> bytes:
    data = _gif()
    place = data.index(b",\0\0\0\0") + 5
    return data[:place] + b"\xff\xff\xff\xff" + data[place + 4 :]


def _sized(width: int, height: int) -> bytes:
    return PNG_START + _header(width, height) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


def _wide_webp() -> bytes:
    bits = (16_382 | 16_382 << 14).to_bytes(4, "little")
    body = b"VP8L" + struct.pack("<I", 26) + b"\x2f" + bits + bytes(21)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _tiff_size(width: int, height: int) -> bytes:
    return tiff([bytes(99)], {256: [width], 257: [height], 258: [8], 259: [1], 262: [1], 277: [1], 278: [height]})


def structures() -> Iterator[Kind]:
    """Scans, chunks, markers, frames, directories and boxes, repeated or nested without end."""

    def bomb(name: str, what: str, make, expected, **more: object) -> Kind:
        return Kind(name=f"bomb-{name}", what=what, make=make, expected=expected, **more)

    lossy, exact, harmed = Picture(tolerance=LOSSY), Picture(), reasons("corrupt", "truncated", "unsupported")
    yield bomb(
        "scans.jpg", "JPEG of 2,000 scans", lambda: _many_scans(64, 32, 2_000), reasons("unsupported"), detail="scans"
    )
    yield bomb(
        "scans-large.jpg",
        "JPEG of 49,000,000 pixels and 250 scans",
        lambda: _many_scans(7_000, 7_000, 240),
        reasons("unsupported"),
        is_long=True,
    )
    yield bomb(
        "markers.jpg",
        "JPEG with 4,000,000 markers without a content",
        lambda: _inside(_jpeg(), 2, b"\xff\x01" * (4 * MIB)),
        reasons("unsupported"),
        detail="segments",
    )
    yield bomb("fill.jpg", "JPEG with 8,000,000 fill bytes", lambda: _inside(_jpeg(), 2, b"\xff" * (8 * MIB)), lossy)
    yield bomb(
        "comments.jpg",
        "JPEG with 1,000,000 empty comments",
        lambda: _inside(_jpeg(), 2, _app(0xFE, b"") * MIB),
        reasons("unsupported"),
        detail="segments",
    )
    yield bomb(
        "texts.png",
        "PNG with 300,000 texts",
        lambda: _inside(_png(), 33, chunk(b"tEXt", b"a\0b") * 300_000),
        reasons("unsupported"),
        detail="chunks",
    )
    yield bomb(
        "fewer-texts.png",
        "PNG with 150,000 texts",
        lambda: _inside(_png(), 33, chunk(b"tEXt", b"a\0b") * 150_000),
        exact,
    )
    yield bomb(
        "text.png",
        "PNG whose text inflates to 512 MiB",
        lambda: _inside(_png(), 33, chunk(b"zTXt", b"Raw profile type exif\0\0" + _deflated_zeros(512 * MIB))),
        exact,
        is_long=True,
    )
    yield bomb(
        "profile.png",
        "PNG whose colour profile inflates to 16 MiB",
        lambda: _inside(_png(), 33, chunk(b"iCCP", b"p\0\0" + _deflated_zeros(16 * MIB))),
        exact,
    )
    yield bomb("pieces.png", "PNG whose pixels come byte by byte", _in_pieces, exact)
    yield bomb(
        "frames.png",
        "PNG that announces 2,147,483,647 frames",
        lambda: _inside(_png(), 33, chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))),
        exact,
    )
    yield bomb("frames.gif", "GIF of 20,000 frames", lambda: _many_frames(20_000), exact)
    yield bomb(
        "blocks.gif", "GIF whose comment has 250,000 blocks", lambda: _gif_comment(b"a" * 250_000, block=1), exact
    )
    yield bomb("loop.tif", "TIFF whose directory is followed by itself", _tiff_loop, exact)
    yield bomb(
        "directories.tif",
        "TIFF with 60,000 directories below it",
        lambda: tiff_of(quadrants(CORNERS), 8, 2, t330=[8] * 60_000),
        exact,
    )
    yield bomb(
        "exif-loop.tif",
        "TIFF whose EXIF is at its own pixels",
        lambda: tiff_of(quadrants(CORNERS), 8, 2, t34665=[8]),
        exact,
    )
    yield bomb(
        "strips.tif",
        "TIFF of 32 rows and 60,000 strips",
        lambda: tiff(
            [bytes(WIDTH)] * 60_000, {256: [WIDTH], 257: [HEIGHT], 258: [8], 259: [1], 262: [1], 277: [1], 278: [1]}
        ),
        Picture(corners=gray(0, 0, 0, 0)),
    )
    for brand, extension in ((b"heic", "heic"), (b"avif", "avif")):
        yield bomb(
            f"boxes.{extension}",
            f"{extension.upper()} of 20,000 boxes in one another",
            lambda brand=brand: struct.pack(">I", 24) + b"ftyp" + brand + bytes(4) + b"mif1" + brand + _nested(20_000),
            harmed,
        )
    yield bomb(
        "nesting.svg",
        "SVG of 1,000,000 elements in one another",
        lambda: b"<svg>" * MIB,
        reasons("not_an_image"),
        detail="SVG",
    )


def _in_pieces() -> bytes:
    rows = b"".join(b"\0" + packed(row[np.newaxis], 8) for row in quadrants(CORNERS))
    pieces = b"".join(chunk(b"IDAT", bytes([byte])) for byte in zlib.compress(rows))
    return PNG_START + _header(WIDTH, HEIGHT) + pieces + chunk(b"IEND", b"")


def _gif() -> bytes:
    made = Image.fromarray(quadrants((0, 1, 2, 3))[:, :, 0].astype(np.uint8), "P")
    made.putpalette(b"".join(bytes(colour) for colour in CORNERS))
    return saved(made, "GIF")


def _many_frames(count: int) -> bytes:
    data = _gif()
    start = data.index(b",\0\0\0\0")
    return data[:start] + data[start:-1] * count + data[-1:]


def _tiff_loop() -> bytes:
    data = tiff_of(quadrants(CORNERS), 8, 2)
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    after = start + 2 + 12 * count
    return data[:after] + struct.pack("<I", start) + data[after + 4 :]


def _nested(depth: int) -> bytes:
    return b"".join(struct.pack(">I", 8 * (depth - level)) + b"meta" for level in range(depth))


def metadata() -> Iterator[Kind]:
    """30 MiB of it, beside a picture of a few hundred bytes."""
    lossy, exact = Picture(tolerance=LOSSY), Picture()
    kinds = {
        "exif.jpg": ("JPEG, EXIF segments", lambda: _with_apps(0xE1, b"Exif\0\0"), lossy, True),
        "xmp.jpg": ("JPEG, XMP", lambda: _with_apps(0xE1, b"http://ns.adobe.com/xmp/extension/\0"), lossy, True),
        "profile.jpg": ("JPEG, colour profile", lambda: _with_apps(0xE2, b"ICC_PROFILE\0\1\xff"), lossy, True),
        "comments.jpg": ("JPEG, comments", lambda: _with_apps(0xFE, b""), lossy, True),
        "tail.jpg": ("JPEG, bytes after its end", lambda: _jpeg() + _junk(), lossy, True),
        "text.png": ("PNG, a text", lambda: _inside(_png(), 33, chunk(b"tEXt", b"a\0" + _junk())), exact, False),
        "exif.png": ("PNG, EXIF", lambda: _inside(_png(), 33, chunk(b"eXIf", _TIFF_START + _junk())), exact, True),
        "own.png": ("PNG, a chunk of its own", lambda: _inside(_png(), 33, chunk(b"prVt", _junk())), exact, True),
        "exif.webp": ("WebP, EXIF", lambda: saved(drawing(), "WEBP", lossless=True, exif=_junk()), exact, True),
        "xmp.webp": ("WebP, XMP", lambda: saved(drawing(), "WEBP", lossless=True, xmp=_junk()), exact, True),
        "comment.gif": ("GIF, comments", lambda: _gif_comment(_junk()), exact, True),
        "tag.tif": ("TIFF, a tag", lambda: saved(drawing(), "TIFF", tiffinfo={37500: _junk()}), exact, True),
        "exif.avif": (
            "AVIF, EXIF",
            lambda: saved(drawing(), "AVIF", quality=95, exif=b"Exif\0\0" + _TIFF_START + _junk()),
            lossy,
            True,
        ),
        "tail.bmp": ("BMP, bytes after its end", lambda: saved(drawing(), "BMP") + _junk(), exact, True),
    }
    for name, (what, make, expected, is_long) in kinds.items():
        yield Kind(name=f"metadata-{name}", what=f"{what} of 30 MiB", make=make, expected=expected, is_long=is_long)


def _junk() -> bytes:
    return np.random.default_rng(0).bytes(_METADATA_BYTES)


def _with_apps(marker: int, start: bytes) -> bytes:
    junk = _junk()
    pieces = (junk[place : place + 65_000] for place in range(0, len(junk), 65_000))
    return _inside(_jpeg(), 2, b"".join(_app(marker, start + piece) for piece in pieces))


def _gif_comment(junk: bytes, block: int = 255) -> bytes:
    data = _gif()
    blocks = b"".join(bytes([block]) + junk[start : start + block] for start in range(0, len(junk) - block, block))
    return _inside(data, data.index(b",\0\0\0\0"), b"!\xfe" + blocks + b"\0")
