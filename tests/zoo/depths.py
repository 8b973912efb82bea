"""Every mode and bit depth of PNG, TIFF and BMP, with and without transparency."""

import struct
from collections.abc import Iterator

import numpy as np

from tests.zoo.encoders import (
    GRAY,
    GRAY_ALPHA,
    PALETTE,
    RGB,
    RGBA,
    bmp,
    chunk,
    drawing,
    packed,
    png,
    saved,
    tiff,
    tiff_of,
)
from tests.zoo.kinds import CORNERS, HEIGHT, LOSSY, WHITE, WIDTH, Corners, Kind, Picture, gray, quadrants, reasons

# Four levels that fill each depth, and the colours that they mean: of 16 bits the high byte.
LEVELS = {
    1: (0, 1, 1, 0),
    2: (0, 1, 2, 3),
    4: (0, 5, 10, 15),
    8: (20, 90, 160, 230),
    16: (0x1234, 0x5678, 0x9ABC, 0xDEF0),
}
MEANT = {1: gray(0, 255, 255, 0), 2: gray(0, 85, 170, 255), 4: gray(0, 85, 170, 255), 8: gray(20, 90, 160, 230)}
MEANT[16] = gray(0x12, 0x56, 0x9A, 0xDE)
# Colours of 16 bits whose high bytes are the usual ones, and the low bytes something else.
DEEP = tuple(tuple(value << 8 | 0x5A for value in colour) for colour in CORNERS)
_INDICES = {1: (0, 1, 1, 0), 2: (0, 1, 2, 3), 4: (0, 1, 2, 3), 8: (0, 1, 2, 3)}
_COLOURS = b"".join(bytes(colour) for colour in CORNERS)
# Alpha of 255, 0 and 128 over white: a stays, b is white, c is half way, d stays.
_ALPHA = (255, 0, 128, 255)


def over_white(corners: Corners) -> Corners:
    """What a viewer shows of the corners with these alphas, rounded as (a * colour + (255 - a) * 255) / 255."""
    a, b, c, d = (
        tuple(round((alpha * value + (255 - alpha) * 255) / 255) for value in colour)
        for colour, alpha in zip(corners, _ALPHA, strict=True)
    )
    return a, b, c, d


def with_alpha(corners: tuple[tuple[int, ...], ...], scale: int = 1) -> list[tuple[int, ...]]:
    return [(*colour, alpha * scale) for colour, alpha in zip(corners, _ALPHA, strict=True)]


def _indexed(depth: int) -> Corners:
    a, b, c, d = (CORNERS[index] for index in _INDICES[depth])
    return a, b, c, d


def png_depths() -> Iterator[Kind]:
    """All 15 combinations of colour type and depth that the PNG standard allows, plain and interlaced."""
    for interlaced in (False, True):
        way = ", interlaced" if interlaced else ""
        tail = "-adam7.png" if interlaced else ".png"
        for depth in (1, 2, 4, 8, 16):
            yield Kind(
                name=f"png-gray{depth}{tail}",
                what=f"PNG, gray of {depth} bits{way}",
                make=lambda depth=depth, on=interlaced: png(quadrants(LEVELS[depth]), depth, GRAY, interlaced=on),
                expected=Picture(corners=MEANT[depth]),
            )
        for depth in (1, 2, 4, 8):
            yield Kind(
                name=f"png-palette{depth}{tail}",
                what=f"PNG, palette of {depth} bits{way}",
                make=lambda depth=depth, on=interlaced: png(
                    quadrants(_INDICES[depth]),
                    depth,
                    PALETTE,
                    interlaced=on,
                    before=chunk(b"PLTE", _COLOURS[: 3 * 2**depth]),
                ),
                expected=Picture(corners=_indexed(depth)),
            )
        for depth, corners, shown in ((8, CORNERS, CORNERS), (16, DEEP, CORNERS)):
            yield Kind(
                name=f"png-rgb{depth}{tail}",
                what=f"PNG, colour of {depth} bits{way}",
                make=lambda depth=depth, corners=corners, on=interlaced: png(
                    quadrants(corners), depth, RGB, interlaced=on
                ),
                expected=Picture(corners=shown),
            )
            scale = 1 if depth == 8 else 257
            yield Kind(
                name=f"png-rgba{depth}{tail}",
                what=f"PNG, colour and alpha of {depth} bits{way}",
                make=lambda depth=depth, corners=corners, scale=scale, on=interlaced: png(
                    quadrants(with_alpha(corners, scale)), depth, RGBA, interlaced=on
                ),
                expected=Picture(corners=over_white(CORNERS), tolerance=1),
            )
            yield Kind(
                name=f"png-gray-alpha{depth}{tail}",
                what=f"PNG, gray and alpha of {depth} bits{way}",
                make=lambda depth=depth, scale=scale, on=interlaced: png(
                    quadrants(with_alpha([(level,) for level in LEVELS[depth]], scale)),
                    depth,
                    GRAY_ALPHA,
                    interlaced=on,
                ),
                expected=Picture(corners=over_white(MEANT[depth]), tolerance=1),
            )


def png_transparency() -> Iterator[Kind]:
    """One transparent gray or colour, or an alpha for each colour of the palette."""
    for depth in (1, 2, 4, 8, 16):
        second = LEVELS[depth][1]
        shown = [WHITE if level == second else meant for level, meant in zip(LEVELS[depth], MEANT[depth], strict=True)]
        yield Kind(
            name=f"png-gray{depth}-key.png",
            what=f"PNG, gray of {depth} bits with a transparent level",
            make=lambda depth=depth, second=second: png(
                quadrants(LEVELS[depth]), depth, GRAY, before=chunk(b"tRNS", struct.pack(">H", second))
            ),
            expected=Picture(corners=tuple(shown)),
        )
    for depth, corners in ((8, CORNERS), (16, DEEP)):
        yield Kind(
            name=f"png-rgb{depth}-key.png",
            what=f"PNG, colour of {depth} bits with a transparent colour",
            make=lambda depth=depth, corners=corners: png(
                quadrants(corners), depth, RGB, before=chunk(b"tRNS", struct.pack(">3H", *corners[1]))
            ),
            expected=Picture(corners=(CORNERS[0], WHITE, *CORNERS[2:])),
        )
    for depth in (1, 2, 4, 8):
        alphas = bytes(_ALPHA[: 2**depth])
        full = dict(enumerate(over_white(CORNERS)))
        a, b, c, d = (full[index] for index in _INDICES[depth])
        yield Kind(
            name=f"png-palette{depth}-alpha.png",
            what=f"PNG, palette of {depth} bits with an alpha for each colour",
            make=lambda depth=depth, alphas=alphas: png(
                quadrants(_INDICES[depth]),
                depth,
                PALETTE,
                before=chunk(b"PLTE", _COLOURS[: 3 * 2**depth]) + chunk(b"tRNS", alphas),
            ),
            expected=Picture(corners=(a, b, c, d), tolerance=1),
        )


def tiff_depths() -> Iterator[Kind]:
    """Modes, depths, byte orders, layouts and compressions of TIFF."""

    def kind(name: str, what: str, make, expected: Picture | frozenset[str]) -> Kind:
        return Kind(name=f"tiff-{name}.tif", what=f"TIFF, {what}", make=make, expected=expected)

    for order, way in (("<", "II"), (">", "MM")):
        for depth in (1, 2, 4, 8, 16):
            yield kind(
                f"gray{depth}-{way}",
                f"gray of {depth} bits, {way}",
                lambda depth=depth, order=order: tiff_of(quadrants(LEVELS[depth]), depth, 1, order=order),
                Picture(corners=MEANT[depth]),
            )
        yield kind(
            f"rgb16-{way}",
            f"colour of 16 bits, {way}",
            lambda order=order: tiff_of(quadrants(DEEP), 16, 2, order=order),
            Picture(),
        )
        yield kind(
            f"rgb8-{way}",
            f"colour of 8 bits, {way}",
            lambda order=order: tiff_of(quadrants(CORNERS), 8, 2, order=order),
            Picture(),
        )
    for depth in (1, 4, 8):
        yield kind(
            f"inverted{depth}",
            f"gray of {depth} bits, 0 is white",
            lambda depth=depth: tiff_of(2**depth - 1 - quadrants(LEVELS[depth]), depth, 0),
            Picture(corners=MEANT[depth]),
        )
    for depth in (1, 2, 4, 8):
        palette = np.zeros((3, 2**depth), np.uint16)
        palette[:, : min(4, 2**depth)] = 257 * np.array(CORNERS[: 2**depth]).T
        yield kind(
            f"palette{depth}",
            f"palette of {depth} bits",
            lambda depth=depth, palette=palette: tiff_of(
                quadrants(_INDICES[depth]), depth, 3, t320=palette.ravel().tolist()
            ),
            Picture(corners=_indexed(depth)),
        )
    yield kind(
        "alpha",
        "colour and alpha",
        lambda: tiff_of(quadrants(with_alpha(CORNERS)), 8, 2, t338=[2]),
        Picture(corners=over_white(CORNERS), tolerance=1),
    )
    premultiplied = [[*(value * alpha // 255 for value in colour), alpha] for *colour, alpha in with_alpha(CORNERS)]
    yield kind(
        "premultiplied",
        "colour multiplied by alpha",
        lambda: tiff_of(quadrants(premultiplied), 8, 2, t338=[1]),
        Picture(corners=over_white(CORNERS), tolerance=2),
    )
    yield kind(
        "extra",
        "colour and a channel of no meaning",
        lambda: tiff_of(quadrants(with_alpha(CORNERS)), 8, 2, t338=[0]),
        Picture(),
    )
    inks = [(*(255 - value for value in colour), 0) for colour in CORNERS]
    yield kind("cmyk", "CMYK", lambda: tiff_of(quadrants(inks), 8, 5), Picture())
    planes = [packed(quadrants(CORNERS)[:, :, [channel]], 8) for channel in range(3)]
    sizes = {256: [WIDTH], 257: [HEIGHT], 258: [8] * 3, 259: [1], 262: [2], 277: [3]}
    yield kind("planar", "a plane for each colour", lambda: tiff(planes, {**sizes, 278: [HEIGHT], 284: [2]}), Picture())
    body = quadrants(CORNERS)
    strips = [packed(body[start : start + 8], 8) for start in range(0, HEIGHT, 8)]
    yield kind("strips", "four strips", lambda: tiff(strips, {**sizes, 278: [8]}), Picture())
    yield kind("big", "BigTIFF", lambda: tiff(strips, {**sizes, 278: [8]}, big=True), Picture())
    tiles = [packed(body[y : y + 16, x : x + 16], 8) for y in range(0, HEIGHT, 16) for x in range(0, WIDTH, 16)]
    tile_tags = {**sizes, 322: [16], 323: [16]}
    yield kind("tiles", "tiles", lambda: tiff(tiles, tile_tags, strip_tags=(324, 325)), Picture())
    for compression in ("tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits", "lzma", "zstd"):
        yield kind(
            compression.removeprefix("tiff_"),
            f"compression {compression}",
            lambda compression=compression: saved(drawing(), "TIFF", compression=compression),
            Picture(),
        )
    yield kind(
        "jpeg",
        "compression jpeg",
        lambda: saved(drawing(), "TIFF", compression="jpeg", quality=95),
        Picture(tolerance=LOSSY),
    )
    checks = Picture(corners=MEANT[1])
    for compression in ("group3", "group4", "tiff_ccitt"):
        yield kind(
            compression.removeprefix("tiff_"),
            f"one bit, compression {compression}",
            lambda compression=compression: saved(_one_bit(), "TIFF", compression=compression),
            checks,
        )
    yield kind(
        "pages", "two pages", lambda: saved(drawing(), "TIFF", save_all=True, append_images=[drawing("L")]), Picture()
    )
    for name, photometric, depth, sample in (("float32", 1, 32, 3), ("int32", 1, 32, 2), ("float16", 1, 16, 3)):
        cells = np.zeros((HEIGHT, WIDTH), f"<u{depth // 8}").tobytes()
        tags = {256: [WIDTH], 257: [HEIGHT], 258: [depth], 259: [1], 262: [photometric], 277: [1], 278: [HEIGHT]}
        yield kind(
            name,
            f"samples {name}",
            lambda cells=cells, tags=tags, sample=sample: tiff([cells], {**tags, 339: [sample]}),
            reasons("unsupported"),
        )


def _one_bit():
    from PIL import Image

    return Image.fromarray((quadrants(LEVELS[1])[:, :, 0] > 0).astype(np.uint8) * 255).convert("1")


def bmp_depths() -> Iterator[Kind]:
    """Depths, bit fields, run lengths and both directions of BMP."""
    swapped = quadrants(CORNERS)[::-1, :, ::-1]  # bottom row first, blue first
    palette = b"".join(bytes([*colour[::-1], 0]) for colour in CORNERS)
    indices = quadrants(_INDICES[8])[::-1]

    def kind(name: str, what: str, make, expected: Picture | None = None) -> Kind:
        return Kind(name=f"bmp-{name}.bmp", what=f"BMP, {what}", make=make, expected=expected or Picture())

    for depth in (1, 4, 8):
        given = quadrants(_INDICES[depth])[::-1]
        yield kind(
            f"palette{depth}",
            f"palette of {depth} bits",
            lambda depth=depth, given=given: bmp(packed(given, depth), depth, palette=palette[: 4 * 2**depth]),
            Picture(corners=_indexed(depth)),
        )
    yield kind("rgb24", "24 bits", lambda: bmp(packed(swapped, 8), 24))
    yield kind("top-down", "the top row first", lambda: bmp(packed(swapped[::-1], 8), 24, height=-HEIGHT))
    with_zero = np.concatenate([swapped, np.zeros_like(swapped[:, :, :1])], axis=2)
    yield kind("rgb32", "32 bits, the fourth byte unused", lambda: bmp(packed(with_zero, 8), 32))
    alpha = quadrants(_ALPHA)[::-1]
    fields = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    bgra = np.concatenate([swapped, alpha], axis=2)
    yield kind(
        "alpha",
        "32 bits with alpha",
        lambda: bmp(packed(bgra, 8), 32, compression=3, masks=fields, header_bytes=108),
        Picture(corners=over_white(CORNERS), tolerance=1),
    )
    for name, widths in (("555", (5, 5, 5)), ("565", (5, 6, 5))):
        levels = [
            [round(value * (2**width - 1) / 255) for value, width in zip(c, widths, strict=True)] for c in CORNERS
        ]
        shown = [tuple(round(v * 255 / (2**w - 1)) for v, w in zip(each, widths, strict=True)) for each in levels]
        red, green = widths[1] + widths[2], widths[2]
        cells = quadrants([r << red | g << green | b for r, g, b in levels])[::-1].astype("<u2").tobytes()
        masks = struct.pack("<3I", *((2**w - 1) << at for w, at in zip(widths, (red, green, 0), strict=True)))
        yield kind(
            f"rgb{name}",
            f"16 bits, {name}",
            lambda cells=cells, masks=masks: bmp(cells, 16, compression=3, masks=masks, header_bytes=52),
            Picture(corners=tuple(shown), tolerance=8),
        )
    runs = b"".join(
        b"".join(bytes([len(half), half[0]]) for half in (row[:32, 0], row[32:, 0])) + b"\0\0" for row in indices
    )
    yield kind("rle8", "run lengths of 8 bits", lambda: bmp(runs + b"\0\1", 8, palette=palette, compression=1))
    runs4 = b"".join(
        b"".join(bytes([len(half), int(half[0]) * 17]) for half in (row[:32, 0], row[32:, 0])) + b"\0\0"
        for row in indices
    )
    yield kind("rle4", "run lengths of 4 bits", lambda: bmp(runs4 + b"\0\1", 4, palette=palette, compression=2))
    os2 = struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, 24)
    rows = packed(swapped, 8)
    yield kind("os2", "the header of OS/2", lambda: b"BM" + struct.pack("<IHHI", 26 + len(rows), 0, 0, 26) + os2 + rows)
