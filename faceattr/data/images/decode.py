"""Images: encoded bytes to RGB pixels, or the reason why an image cannot be used.

8-bit gray and colour JPEGs are decoded by simplejpeg with Pillow's inverse DCT and chroma upsampling, which gives the
same pixels, bit for bit, in half the time. All other images are decoded by Pillow, restricted to the format that the
first bytes announce; HEIF needs the extra `heic`. The size is in the header and is checked before decoding.

The result is the first frame, with EXIF (or XMP) orientation applied, transparency blended over white as a viewer shows
it, the high byte of 16-bit samples, gray converted to colour, and colour profiles not applied, as in the models' own
preprocessing. A truncated file is refused even if a decoder would fill the rest with gray; bytes after the end are
ignored.
"""

import io
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import (  # noqa: F401  each plugin registers its format; without these imports Pillow would import all plugins
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)
from PIL.ExifTags import Base as ExifTag

from faceattr.config import ImageLimitsConfig
from faceattr.data.images.cut_files import ends_early, is_cut_in_boxes
from faceattr.data.images.heif import register_heif
from faceattr.data.images.kinds import announced_format
from faceattr.data.images.png_chunks import without_metadata
from faceattr.data.images.rgb import convert_to_rgb
from faceattr.errors import ImageError

Pixels = npt.NDArray[np.uint8]

REASONS: Mapping[str, str] = {
    "missing": "the store has no object under this key (raised where it is fetched)",
    "unreadable": "the object is there and is kept back: no right to read it, archived, no regular file",
    "empty": "the object has no bytes",
    "too_large": "more encoded bytes than the limit",
    "too_many_pixels": "the header announces more pixels than the limit",
    "not_an_image": "the bytes are something else: a web page, a video, an archive, text",
    "unsupported": "an image, in a format or sample type that is not read",
    "truncated": "the file ends before its image does",
    "corrupt": "the format is known, but the decoder found it damaged",
    "decoder_crashed": "the decoding process died twice on this image",
    "decoder_timeout": "decoding took longer than its deadline, twice",
}


def decode_image(data: bytes, limits: ImageLimitsConfig, *, buffer: Pixels | None = None) -> Pixels:
    """Decodes one image of any supported format.

    Args:
        data: encoded bytes.
        limits: bounds, checked before pixels are decoded.
        buffer: uint8 [N], C-contiguous; if the pixels fit and need no second step, the result is a view of it.

    Returns:
        uint8 [H, W, 3], RGB, C-contiguous, upright.

    Raises:
        ImageError: the image cannot be used; the reason is one of REASONS.
    """
    size_fault = find_size_fault(data, limits)
    if size_fault is not None:
        raise size_fault
    image_format = announced_format(data)
    try:
        if image_format == "JPEG":
            return _decode_jpeg(data, limits, buffer)
        if image_format == "PNG":
            data = _read_png(data, limits)
        if image_format == "WEBP" and len(data) < 8 + int.from_bytes(data[4:8], "little"):
            raise _ends_early(data, image_format)
        if image_format == "HEIF":
            register_heif()
            if is_cut_in_boxes(data):  # libheif's error for a cut file is the same as for an unknown one
                raise _ends_early(data, image_format)
        return _decode_with_pillow(data, image_format, limits, buffer)
    except Image.DecompressionBombError as error:
        detail = f"{image_format} header: over the limit of {_name_max_pixels(limits)}"
        raise ImageError("too_many_pixels", detail) from error
    except _DECODER_ERRORS as error:
        # The decoders' messages can quote the file, so only the error's type is passed on.
        message = str(error).lower()
        if "memory" in message:
            raise MemoryError(f"{image_format} decoder") from error
        if "truncated" in message or ends_early(data, image_format):
            reason = "truncated"
        elif isinstance(error, UnidentifiedImageError) and image_format in _OF_MANY_KINDS:
            detail = f"{image_format} of a kind that {_OF_MANY_KINDS[image_format]} does not read"
            raise ImageError("unsupported", detail) from error
        else:
            reason = "corrupt"
        raise ImageError(reason, f"{image_format} decoder: {type(error).__name__}") from error


def find_size_fault(data: bytes, limits: ImageLimitsConfig) -> ImageError | None:
    """Returns the error of data that are empty or longer than the limit, else None."""
    if not data:
        return ImageError("empty", "0 bytes")
    if len(data) > limits.max_bytes:
        return describe_too_large(len(data), limits)
    return None


def describe_too_large(num_bytes: int, limits: ImageLimitsConfig) -> ImageError:
    """Returns the error of an encoded image with more bytes than the limit."""
    return ImageError("too_large", f"{num_bytes:,} bytes, over the limit of {limits.max_bytes:,} (--decode.max-bytes)")


_DNG_VERSION, _SUB_IMAGES, _IMAGE_KIND = 0xC612, 0x14A, 0xFE
_PNG_BITS = 24  # where the header has the bits of a sample

# Formats of so many kinds that a whole file can be one that nobody reads, and who says so.
_OF_MANY_KINDS = {"HEIF": "libheif", "TIFF": "Pillow"}

# What simplejpeg and Pillow raise on damaged input, also as a consequence of a partly read header. MemoryError is not
# included, since it says nothing about the image.
_READ_ERRORS = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error, zlib.error)
_DECODER_ERRORS = (*_READ_ERRORS, ArithmeticError, AttributeError, RuntimeError, AssertionError)

# Without the restart markers, which are inside the compressed data, and FF 00, which is an escaped byte of them.
_JPEG_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_END_OF_IMAGE, _START_OF_SCAN, _APP1, _PARAMETERLESS = 0xD9, 0xDA, 0xE1, (0x01, 0xD8)
# Each scan covers the whole picture: a small file with 2,000 empty scans takes 40 s, 250 of a large picture 12 s.
# Encoders write up to about 100, and 10 of a photo.
_MOST_SCANS = 256
_MOST_SCANNED_PIXELS = 1_600_000_000
# A file of nothing but markers takes a second per megabyte. 30 MB of metadata are 500 segments.
_MOST_SEGMENTS = 10_000
# Pillow joins segments of EXIF in quadratic time; a photo has one, and a few of XMP.
_MOST_APP1 = 64
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HUFFMAN_FRAMES = frozenset([0xC0, 0xC1, 0xC2])
# libjpeg's warnings after which part of the picture is invented; its others (stray bytes, an odd header) are harmless.
_JPEG_DAMAGE = ("bad Huffman code", "bad arithmetic code", "instead of RST", "Inconsistent progression")


@dataclass(frozen=True)
class _JpegHeader:
    frame: int
    bits: int
    height: int
    width: int
    num_components: int
    may_be_rotated: bool
    app1: list[slice]


def _read_jpeg_header(data: bytes, limits: ImageLimitsConfig) -> _JpegHeader:
    """Walks the markers to the end of the image, which must exist; checks the size on the way."""
    frame: tuple[int, int, int, int, int] | None = None
    may_be_rotated, position, num_scans, num_segments = False, 2, 0, 0
    app1: list[slice] = []
    while (match := _JPEG_MARKER.search(data, position)) is not None:
        marker, position = match[1][0], match.end()
        if marker == _END_OF_IMAGE:
            if frame is None:
                raise ImageError("corrupt", "JPEG without a frame header")
            return _JpegHeader(*frame, may_be_rotated, app1)
        num_segments += 1
        if num_segments > _MOST_SEGMENTS:
            raise ImageError("unsupported", f"JPEG of more than {_MOST_SEGMENTS:,} segments")
        if marker in _PARAMETERLESS:
            continue
        num_scans += marker == _START_OF_SCAN
        most = _MOST_SCANS if frame is None else min(_MOST_SCANS, _MOST_SCANNED_PIXELS // max(1, frame[2] * frame[3]))
        if num_scans > most:
            raise ImageError("unsupported", f"JPEG of more than {most} scans")
        end = position + int.from_bytes(data[position : position + 2], "big")
        if marker in _START_OF_FRAME and frame is None and position + 8 <= len(data):
            bits, height, width, num_components = struct.unpack_from(">BHHB", data, position + 2)
            _check_num_pixels("JPEG", width, height, limits)
            frame = (marker, bits, height, width, num_components)
        elif marker == _APP1:
            app1.append(slice(position - 2, end))
            payload = data[position + 2 : end]
            may_be_rotated |= any(tag in payload for tag in (b"\x12\x01", b"\x01\x12", b"tiff:Orientation"))
        position = end
    raise ImageError("truncated", f"JPEG of {len(data)} bytes without its end marker")


def _decode_jpeg(data: bytes, limits: ImageLimitsConfig, buffer: Pixels | None) -> Pixels:
    header = _read_jpeg_header(data, limits)
    if len(header.app1) > _MOST_APP1:
        data = _without(data, header.app1[_MOST_APP1:])
    if header.frame not in _HUFFMAN_FRAMES or header.bits != 8:
        # Pillow reads some of these; what it cannot read is a rare format rather than damage.
        try:
            return _decode_with_pillow(data, "JPEG", limits, buffer)
        except _DECODER_ERRORS as error:
            raise ImageError("unsupported", f"JPEG of {header.bits} bits, process {header.frame - 0xC0}") from error
    pixels = _decode_with_simplejpeg(data, "CMYK" if header.num_components == 4 else "RGB", header, buffer)
    if pixels is None or header.num_components == 4:
        return _decode_with_pillow(data, "JPEG", limits, buffer)  # CMYK was decoded above only to detect damage
    if header.may_be_rotated:
        try:
            with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
                pixels = _turn_upright(pixels, _read_orientation(image))
        except _DECODER_ERRORS:  # only the metadata are damaged: the pixels are decoded
            return pixels
    return pixels


def _without(data: bytes, parts: Sequence[slice]) -> bytes:
    starts, stops = [0, *(part.stop for part in parts)], [*(part.start for part in parts), len(data)]
    return b"".join(data[start:stop] for start, stop in zip(starts, stops, strict=True))


def _decode_with_simplejpeg(data: bytes, space: str, header: _JpegHeader, buffer: Pixels | None) -> Pixels | None:
    """Returns uint8 [H, W, 3 or 4], or None if simplejpeg cannot decide: odd chroma subsampling, a broken header."""
    # A buffer of the checked size, so that another size found by the decoder raises an error instead of allocating.
    size = header.height * header.width * len(space)
    pixels = _take(size, buffer)
    # The two False disable the fast DCT and the fast upsampling, neither of which gives Pillow's pixels.
    for strict in (True, False):
        try:
            return simplejpeg.decode_jpeg(data, space, False, False, strict=strict, buffer=pixels)
        except ValueError as error:
            message = str(error)
            if "memory" in message.lower():
                raise
            if "remature end" in message:
                raise ImageError("truncated", "JPEG whose compressed data ends early") from error
            if any(damage in message for damage in _JPEG_DAMAGE):
                raise ImageError("corrupt", "JPEG with damaged compressed data") from error
    return None


def _take(size: int, buffer: Pixels | None) -> Pixels:
    """uint8 [size], of the buffer if it fits."""
    return buffer[:size] if buffer is not None and size <= buffer.size else np.empty(size, np.uint8)


def _check_num_pixels(image_format: str, width: int, height: int, limits: ImageLimitsConfig) -> None:
    if width * height > limits.max_pixels:
        found = f"{image_format} header announces {width} x {height} pixels"
        raise ImageError("too_many_pixels", f"{found}, over the limit of {_name_max_pixels(limits)}")


def _name_max_pixels(limits: ImageLimitsConfig) -> str:
    return f"{limits.max_pixels:,} (--decode.max-pixels)"


def _read_png(data: bytes, limits: ImageLimitsConfig) -> bytes:
    """Returns a PNG without metadata. Pillow accepts the pixels of a truncated PNG, so such a file is refused here."""
    if len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
        _check_num_pixels("PNG", width, height, limits)
    whole = without_metadata(data)
    if whole is None:
        raise _ends_early(data, "PNG")
    return whole


def _ends_early(data: bytes, image_format: str) -> ImageError:
    return ImageError("truncated", f"{image_format} that ends after {len(data)} bytes, before its announced end")


def _decode_with_pillow(data: bytes, image_format: str, limits: ImageLimitsConfig, buffer: Pixels | None) -> Pixels:
    with Image.open(io.BytesIO(data), formats=[image_format]) as image:
        _check_num_pixels(image_format, *image.size, limits)
        if isinstance(image, TiffImagePlugin.TiffImageFile) and _is_camera_raw(image):
            raise ImageError("unsupported", "camera raw, whose first image is a thumbnail")
        frame = image.tile[0].extents if image_format == "GIF" and image.tile else None
        image.load()
        pixels = _take(3 * image.width * image.height, buffer).reshape(image.height, image.width, 3)
        convert_to_rgb(image, pixels, bits=data[_PNG_BITS] if image_format == "PNG" else 8)
        if frame is not None:
            pixels = _on_white(pixels, *frame)
        return _turn_upright(pixels, _read_orientation(image))


def _on_white(pixels: Pixels, left: int, top: int, right: int, bottom: int) -> Pixels:
    """White around the first frame of a GIF, where viewers show nothing and Pillow the first colour of the palette."""
    if pixels.shape[:2] == (bottom - top, right - left):
        return pixels
    page = np.full_like(pixels, 255)
    page[top:bottom, left:right] = pixels[top:bottom, left:right]
    return page


def _is_camera_raw(image: TiffImagePlugin.TiffImageFile) -> bool:
    """Whether this is a DNG, NEF or similar: it has a DNG version, or a reduced first image with others below it."""
    tags = image.tag_v2
    return _DNG_VERSION in tags or (_SUB_IMAGES in tags and tags.get(_IMAGE_KIND, 0) & 1 == 1)


def _read_orientation(image: ImageFile.ImageFile) -> int:
    """Returns the EXIF orientation, 1 to 8; 1 also if the metadata cannot be read, so the picture stays as stored."""
    try:
        orientation = image.getexif().get(ExifTag.Orientation, 1)
    except _DECODER_ERRORS:
        return 1
    return orientation if orientation in range(1, 9) else 1


def _turn_upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undoes an EXIF orientation: 5 to 8 store rows as columns, and each value mirrors certain sides."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
