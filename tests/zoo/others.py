"""JPEG, WebP, GIF, AVIF and HEIF in their modes, animations, and files under a wrong name."""

import struct
from collections.abc import Iterator

import numpy as np
import pillow_heif
from PIL import Image

from tests.zoo.depths import over_white, with_alpha
from tests.zoo.encoders import drawing, saved
from tests.zoo.kinds import CORNERS, HEIGHT, LOSSY, WHITE, WIDTH, Kind, Picture, gray, quadrants, reasons

_GRAYS = (20, 90, 160, 230)


def _gray() -> Image.Image:
    return Image.fromarray(quadrants(_GRAYS)[:, :, 0].astype(np.uint8))


def _rgba() -> Image.Image:
    return Image.fromarray(quadrants(with_alpha(CORNERS)).astype(np.uint8))


def _ycc(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Y, Cb, Cr by ITU-R BT.601, as JFIF defines them."""
    red, green, blue = colour
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return round(luma), round(128 + (blue - luma) / 1.772), round(128 + (red - luma) / 1.402)


def ycck() -> bytes:
    """A JPEG of K and of Y, Cb, Cr of the other inks, as Adobe's programs write it, without black ink.

    Pillow writes four channels as CMYK, inverted. So the channels are given inverted, and the transform in Adobe's
    marker is changed from 0 to 2.
    """
    inks = [tuple(255 - value for value in colour) for colour in CORNERS]
    channels = [(*(255 - value for value in _ycc(ink)), 0) for ink in inks]
    data = saved(Image.fromarray(quadrants(channels).astype(np.uint8), "CMYK"), "JPEG", quality=98, subsampling=0)
    place = data.index(b"Adobe\0d") + 11
    assert data[place] == 0
    return data[:place] + b"\2" + data[place + 1 :]


def jpegs() -> Iterator[Kind]:
    """Modes and ways of JPEG."""
    lossy = Picture(tolerance=LOSSY)
    inks = Image.fromarray(quadrants([(*(255 - v for v in c), 0) for c in CORNERS]).astype(np.uint8), "CMYK")
    half = [tuple(v * (255 - 51) // 255 for v in c) for c in CORNERS]
    black = Image.fromarray(quadrants([(*(255 - v for v in c), 51) for c in CORNERS]).astype(np.uint8), "CMYK")
    best = {"quality": 95, "subsampling": 0}
    ways = {
        "444": (drawing(), best, lossy, "no subsampling"),
        "422": (drawing(), {"quality": 95, "subsampling": 1}, lossy, "chroma 4:2:2"),
        "420": (drawing(), {"quality": 95, "subsampling": 2}, lossy, "chroma 4:2:0"),
        "411": (drawing(), {"quality": 95, "subsampling": "4:1:1"}, lossy, "chroma 4:1:1"),
        "progressive": (drawing(), {**best, "progressive": True}, lossy, "progressive"),
        "restarts": (drawing(), {**best, "restart_marker_blocks": 1}, lossy, "a restart marker after each block"),
        "optimized": (drawing(), {**best, "optimize": True}, lossy, "its own Huffman tables"),
        "rgb": (drawing(), {"quality": 95, "keep_rgb": True}, lossy, "stored as RGB"),
        "gray": (_gray(), {"quality": 95}, Picture(corners=gray(*_GRAYS), tolerance=4), "gray"),
        "gray-progressive": (
            _gray(),
            {"quality": 95, "progressive": True},
            Picture(corners=gray(*_GRAYS), tolerance=4),
            "gray, progressive",
        ),
        "cmyk": (inks, {"quality": 95}, lossy, "CMYK of Adobe"),
        "cmyk-progressive": (inks, {"quality": 95, "progressive": True}, lossy, "CMYK of Adobe, progressive"),
        "cmyk-black": (black, {"quality": 95}, Picture(corners=tuple(half), tolerance=LOSSY), "CMYK with black ink"),
        "profile": (drawing(), {**best, "icc_profile": b"no profile" * 1000}, lossy, "a damaged colour profile"),
    }
    for name, (image, options, expected, what) in ways.items():
        yield Kind(
            name=f"jpeg-{name}.jpg",
            what=f"JPEG, {what}",
            make=lambda image=image, options=options: saved(image, "JPEG", **options),
            expected=expected,
        )
    yield Kind(name="jpeg-ycck.jpg", what="JPEG, YCCK of Adobe", make=ycck, expected=lossy)
    frames = {"save_all": True, "append_images": [drawing("L")], "quality": 95}
    yield Kind(name="mpo.mpo", what="MPO: two JPEGs", make=lambda: saved(drawing(), "MPO", **frames), expected=lossy)
    yield Kind(
        name="jpeg-no-jfif.jpg",
        what="JPEG without a JFIF header",
        make=lambda: _without_app0(saved(drawing(), "JPEG", **best)),
        expected=lossy,
    )
    yield Kind(
        name="jpeg-lossless.jpg",
        what="JPEG, lossless announced",
        make=lambda: saved(drawing(), "JPEG", **best).replace(b"\xff\xc0", b"\xff\xc3", 1),
        expected=reasons("unsupported"),
    )
    yield Kind(
        name="jpeg-12-bits.jpg",
        what="JPEG of 12 bits",
        make=lambda: saved(drawing(), "JPEG").replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c", 1),
        expected=reasons("unsupported"),
    )


def _without_app0(data: bytes) -> bytes:
    return data[:2] + data[4 + int.from_bytes(data[4:6], "big") :]


def webps_and_avifs() -> Iterator[Kind]:
    """Modes of WebP, AVIF and HEIF, and their animations."""
    lossy, alpha = Picture(tolerance=LOSSY), Picture(corners=over_white(CORNERS), tolerance=LOSSY)
    grays = Picture(corners=gray(*_GRAYS), tolerance=LOSSY)
    second = {"save_all": True, "append_images": [drawing("L").convert("RGB")], "duration": 100}
    kinds = {
        "webp-lossy.webp": ("WebP", drawing(), {"quality": 95}, lossy),
        "webp-lossless.webp": ("WebP, lossless", drawing(), {"lossless": True}, Picture()),
        "webp-alpha.webp": ("WebP with alpha", _rgba(), {"quality": 95, "exact": True}, alpha),
        "webp-alpha-lossless.webp": (
            "WebP with alpha, lossless",
            _rgba(),
            {"lossless": True, "exact": True},
            Picture(corners=over_white(CORNERS), tolerance=1),
        ),
        "webp-animated.webp": ("WebP, animated", drawing(), {**second, "lossless": True}, Picture()),
        "avif-420.avif": ("AVIF", drawing(), {"quality": 95}, lossy),
        "avif-444.avif": ("AVIF, no subsampling", drawing(), {"quality": 95, "subsampling": "4:4:4"}, lossy),
        "avif-gray.avif": ("AVIF, gray", _gray(), {"quality": 95, "subsampling": "4:0:0"}, grays),
        "avif-alpha.avif": ("AVIF with alpha", _rgba(), {"quality": 95}, alpha),
        "avif-animated.avif": ("AVIF, animated", drawing(), {**second, "quality": 95}, lossy),
    }
    for name, (what, image, options, expected) in kinds.items():
        image_format = name.partition(".")[2].upper()
        yield Kind(
            name=name,
            what=what,
            make=lambda image=image, image_format=image_format, options=options: saved(image, image_format, **options),
            expected=expected,
        )


def heifs() -> Iterator[Kind]:
    """Photos of phones."""
    lossy = Picture(tolerance=LOSSY)

    def encode(mode: str, samples: np.ndarray, **options: object) -> bytes:
        from io import BytesIO

        made = pillow_heif.from_bytes(mode, (WIDTH, HEIGHT), samples.tobytes())
        stream = BytesIO()
        made.save(stream, quality=95, **options)
        return stream.getvalue()

    colours = quadrants(CORNERS)
    grays = Picture(corners=gray(*_GRAYS), tolerance=LOSSY)
    alpha = Picture(corners=over_white(CORNERS), tolerance=LOSSY)
    yield Kind(name="heif.heic", what="HEIF", make=lambda: encode("RGB", colours.astype(np.uint8)), expected=lossy)
    yield Kind(
        name="heif-444.heic",
        what="HEIF, no subsampling",
        make=lambda: encode("RGB", colours.astype(np.uint8), chroma=444),
        expected=lossy,
    )
    yield Kind(
        name="heif-gray.heic",
        what="HEIF, gray",
        make=lambda: encode("L", quadrants(_GRAYS).astype(np.uint8)),
        expected=grays,
    )
    yield Kind(
        name="heif-alpha.heic",
        what="HEIF with alpha",
        make=lambda: encode("RGBA", quadrants(with_alpha(CORNERS)).astype(np.uint8)),
        expected=alpha,
    )
    yield Kind(
        name="heif-10-bits.heic",
        what="HEIF of 10 bits",
        make=lambda: encode("RGB;16", (colours.astype(np.uint32) * 257).astype(np.uint16)),
        expected=lossy,
    )


def gifs() -> Iterator[Kind]:
    """Palettes, transparency, frames and versions of GIF."""

    def indexed() -> Image.Image:
        made = Image.fromarray(quadrants((0, 1, 2, 3))[:, :, 0].astype(np.uint8), "P")
        made.putpalette(b"".join(bytes(colour) for colour in CORNERS))
        return made

    second = {"save_all": True, "append_images": [drawing("L")], "duration": 100}
    clear = Picture(corners=(CORNERS[0], WHITE, *CORNERS[2:]))
    plain = saved(indexed(), "GIF", interlace=0)
    kinds = {
        "gif-plain": ("GIF", lambda: plain, Picture()),
        "gif-87a": ("GIF, version 87a", lambda: plain.replace(b"GIF89a", b"GIF87a"), Picture()),
        "gif-interlaced": ("GIF, interlaced", lambda: saved(indexed(), "GIF", interlace=1), Picture()),
        "gif-transparent": ("GIF with a transparent colour", lambda: saved(indexed(), "GIF", transparency=1), clear),
        "gif-animated": ("GIF, animated", lambda: saved(indexed(), "GIF", **second), Picture()),
        "gif-comment": ("GIF with a comment", lambda: saved(indexed(), "GIF", comment=b"made up" * 30), Picture()),
        # The frame fills the upper left quarter of its screen; viewers show nothing in the rest.
        "gif-small-frame": (
            "GIF whose frame is smaller than its screen",
            lambda: on_screen(saved(_quarter(), "GIF"), WIDTH, HEIGHT),
            Picture(corners=(CORNERS[0], WHITE, WHITE, WHITE)),
        ),
    }
    for name, (what, make, expected) in kinds.items():
        yield Kind(name=f"{name}.gif", what=what, make=make, expected=expected)


def _quarter() -> Image.Image:
    made = Image.new("P", (WIDTH // 2, HEIGHT // 2), 0)
    made.putpalette(bytes(CORNERS[0]))
    return made


def on_screen(data: bytes, width: int, height: int) -> bytes:
    """The GIF with a screen of another size, its frame in the upper left corner."""
    return data[:6] + struct.pack("<HH", width, height) + data[10:]


def apng() -> Iterator[Kind]:
    """Animated PNG."""
    second = {"save_all": True, "append_images": [drawing("L").convert("RGB")], "duration": 100}
    yield Kind(
        name="png-animated.png",
        what="PNG, animated",
        make=lambda: saved(drawing(), "PNG", **second),
        expected=Picture(),
    )
    hidden = {"save_all": True, "append_images": [drawing("L").convert("RGB")] * 2, "default_image": True}
    yield Kind(
        name="png-animated-still.png",
        what="PNG whose picture is not part of its animation",
        make=lambda: saved(drawing(), "PNG", **hidden),
        expected=Picture(),
    )


READ = {
    "jpg": lambda: saved(drawing(), "JPEG", quality=95),
    "png": lambda: saved(drawing(), "PNG"),
    "webp": lambda: saved(drawing(), "WEBP", lossless=True),
    "gif": lambda: saved(drawing().quantize(4), "GIF"),
    "bmp": lambda: saved(drawing(), "BMP"),
    "tif": lambda: saved(drawing(), "TIFF"),
    "avif": lambda: saved(drawing(), "AVIF", quality=95),
}


def wrong_names() -> Iterator[Kind]:
    """Each format under the extension of the next one, and without any: the first bytes decide."""
    extensions = [*READ, "jpg"]
    for number, (extension, make) in enumerate(READ.items()):
        lossy = Picture(tolerance=LOSSY)
        others = [f".{extensions[number + 1]}", "", ".heic", f".{extension.upper()}"]
        for other in others:
            what = f"{extension} named {other}" if other else f"{extension} without an extension"
            yield Kind(name=f"named-{extension}{other}", what=what, make=make, expected=lossy)
