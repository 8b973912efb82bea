"""Images: every kind of damage, and every limit, against a named reason."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from faceattr.config import ImageLimitsConfig
from faceattr.data.images.decode import REASONS, decode_image
from faceattr.data.images.heif import register_heif
from faceattr.errors import ConfigError, ImageError
from tests.data.pictures import (
    JPEG,
    LIMITS,
    ORIENTATION_TAG,
    PICTURE,
    PNG,
    PROGRESSIVE,
    WEBP,
    encode,
    find_detail,
    find_reason,
    read_with_pillow,
)

# Pillow warns of damaged metadata, of which there is much here.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


@pytest.mark.parametrize("data", [JPEG, PROGRESSIVE, PNG, WEBP], ids=["jpeg", "progressive", "png", "webp"])
def test_a_file_cut_anywhere_is_truncated(data: bytes) -> None:
    for cut in [*range(16, len(data), 7), *range(len(data) - 30, len(data))]:
        assert find_reason(data[:cut]) == "truncated", cut


@pytest.mark.parametrize(("data", "signature"), [(JPEG, 2), (PNG, 8), (WEBP, 12)], ids=["jpeg", "png", "webp"])
def test_a_file_cut_in_its_signature_is_not_an_image(data: bytes, signature: int) -> None:
    """The lengths in bytes are the formats': JPEG's SOI, PNG's first eight, RIFF with its size and WEBP."""
    for cut in range(1, 16):
        assert find_reason(data[:cut]) == ("not_an_image" if cut < signature else "truncated"), cut


@pytest.mark.parametrize("image_format", ["BMP", "TIFF", "AVIF", "GIF"])
def test_other_formats_cut_within_their_pixels_are_refused(image_format: str) -> None:
    data = encode(PICTURE, image_format)
    for cut in range(20, len(data) - 40, 53):
        assert find_reason(data[:cut]) in ("truncated", "corrupt"), cut


@pytest.mark.parametrize("place", [5_000, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_directory_beyond_the_end_is_truncated_however_far(place: int) -> None:
    assert find_reason(b"II+\0\x08\0\0\0" + struct.pack("<Q", place)) == "truncated"  # a BigTIFF's header


@pytest.mark.parametrize("data", [JPEG, PROGRESSIVE], ids=["baseline", "progressive"])
def test_a_cut_jpeg_with_an_end_marker_put_back_is_truncated(data: bytes) -> None:
    assert find_reason(data[: len(data) // 2] + b"\xff\xd9") in ("truncated", "corrupt")


def test_a_thumbnails_end_marker_does_not_pass_for_the_images() -> None:
    thumbnail = b"Exif\0\0II*\0\x08\0\0\0\0\0" + JPEG[:500] + b"\xff\xd9"
    data = encode(PICTURE, "JPEG", exif=thumbnail)
    decode_image(data, LIMITS)
    assert find_reason(data[:-40]) == "truncated"


def test_bytes_after_the_end_are_ignored() -> None:
    for data in (JPEG, PROGRESSIVE, PNG, WEBP):
        for tail in (b"\0", b"junk" * 1000, data[:300]):
            np.testing.assert_array_equal(decode_image(data + tail, LIMITS), read_with_pillow(data))


def test_stray_bytes_before_the_end_of_a_jpeg_are_harmless() -> None:
    np.testing.assert_array_equal(decode_image(JPEG[:-2] + b"abc" + JPEG[-2:], LIMITS), read_with_pillow(JPEG))


def test_damaged_jpeg_data_are_corrupt() -> None:
    scan = JPEG.index(b"\xff\xda") + 14
    no_huffman_code = b"\xff\0" * 30  # all ones is never a code
    assert find_reason(JPEG[: scan + 200] + no_huffman_code + JPEG[scan + 260 :]) == "corrupt"
    restarts = encode(PICTURE, "JPEG", restart_marker_blocks=2)
    assert find_reason(restarts.replace(b"\xff\xd1", b"\xff\xd5", 1)) == "corrupt"


def test_bombs_are_refused_on_their_header() -> None:
    size = struct.pack(">HH", 65500, 65500)
    jpeg = b"\xff\xd8\xff\xc0\x00\x11\x08" + size + b"\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"
    header = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    png = PNG[:8] + b"\0\0\0\x0d" + header + struct.pack(">I", zlib.crc32(header))
    png += b"\0\0\0\0IEND\xaeB`\x82"
    gif = b"GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;"
    bmp = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0)
    for data in (jpeg, jpeg + b"\xff\xd9", png, png[:40], gif, bmp):
        assert find_reason(data) == "too_many_pixels"


def test_limits_count_to_the_last_byte_and_pixel() -> None:
    num_pixels = 61 * 37
    for data in (JPEG, PNG, WEBP):
        decode_image(data, ImageLimitsConfig(max_bytes=len(data), max_pixels=num_pixels))
        assert find_reason(data, ImageLimitsConfig(max_bytes=len(data) - 1)) == "too_large"
        assert find_reason(data, ImageLimitsConfig(max_pixels=num_pixels - 1)) == "too_many_pixels"
    for wrong in ({"max_bytes": 0}, {"max_pixels": 0}, {"max_pixels": 10**9}):
        with pytest.raises(ConfigError):
            ImageLimitsConfig(**wrong)


@pytest.mark.parametrize(
    ("data", "looks_like"),
    [
        (b"<!DOCTYPE html><html><body>404</body></html>", "HTML"),
        (b"\n  <HTML>", "HTML"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b'<?xml version="1.0"?>\n<svg width="1"/>', "SVG"),
        (b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>', "XML"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "MP4"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01", "WebM"),
        (b"%PDF-1.7\n", "PDF"),
        (b"PK\3\4\x14\0", "zip"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (bytes(1000), "zero bytes"),
        (b"name,age\nx,3\n", "text"),
        (b"\x01\x02\x03\x04\x05\x06\x07\x08", "no format"),
    ],
)
def test_what_is_not_an_image_is_named(data: bytes, looks_like: str) -> None:
    assert find_reason(data) == "not_an_image"
    assert looks_like in find_detail(data)


def test_images_that_are_not_read_are_unsupported() -> None:
    heif = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    float_tiff = encode(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF")
    jpeg_12_bit = JPEG.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c")
    for data in (heif, b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x0a\x00", b"8BPS\0\1", float_tiff, jpeg_12_bit):
        assert find_reason(data) == "unsupported"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1heic", "HEIF"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "camera raw"),
        (b"II\x2a\0\x10\0\0\0CR\x02\0" + bytes(40), "camera raw"),
        (b"IIU\0\x18\0\0\0" + bytes(40), "camera raw"),
        (b"FUJIFILMCCD-RAW 0201", "camera raw"),
        (b"\xff\x4f\xff\x51\0\x2f", "JPEG 2000"),
        (b"II\xbc\x01\x08\0\0\0", "JPEG XR"),
        (b"P6\n# a comment\n2 2\n255\n" + bytes(12), "Netpbm"),
        (b"\0\0\1\0\1\0\x10\x10", "icon"),
        (b"\x76\x2f\x31\1\2\0\0\0", "OpenEXR"),
        (b"qoif\0\0\0\1\0\0\0\1\3\0", "QOI"),
        (b"\x59\xa6\x6a\x95" + bytes(28), "Sun raster"),
    ],
)
def test_images_of_kinds_that_nobody_reads_here_are_named(data: bytes, kind: str) -> None:
    assert find_reason(data) == "unsupported"
    assert kind in find_detail(data).partition(";")[0]


def test_texts_that_begin_like_an_image_are_texts() -> None:
    for text in (b"P3 is the third one\n", b"DDS stands for dental surgeon\n", b"FLIF was a format\n"):
        assert find_reason(text) == "not_an_image"


@pytest.mark.parametrize("tags", [{0xC612: b"\1\4\0\0"}, {0xFE: 1, 0x14A: 8}], ids=["DNG", "NEF"])
def test_the_thumbnail_of_a_camera_raw_is_not_taken_for_the_photo(tags: dict[int, object]) -> None:
    directory = ImageFileDirectory_v2()
    for tag, value in tags.items():
        directory[tag] = value
        directory.tagtype[tag] = 1 if isinstance(value, bytes) else 4
    data = encode(PICTURE, "TIFF", tiffinfo=directory)
    assert find_reason(data) == "unsupported"
    assert "camera raw" in find_detail(data)


def chunk(kind: bytes, content: bytes, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


BIG = np.random.default_rng(1).bytes(2 * 2**20)


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize(
    "metadata",
    [
        chunk(b"tEXt", b"Comment\0" + BIG.hex().encode()),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3 * 2**20))),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"x" * 2**21),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(3 * 2**20))),
        chunk(b"iCCP", b"profile\0\0" + zlib.compress(BIG)),
        chunk(b"iCCP", b"profile\0\0no zlib data"),
        chunk(b"tEXt", b"Comment\0edited", checksum=1),
        chunk(b"pHYs", struct.pack(">IIB", 1, 1, 0), checksum=2),
        chunk(b"eXIf", b"MM\0*no exif", checksum=3),
        chunk(b"tIME", b"short"),
        chunk(b"prVt", BIG),
        chunk(b"zTXt", b"no end of the keyword"),
    ],
    ids=[
        "text",
        "inflated",
        "xmp",
        "exif",
        "profile",
        "damaged profile",
        "crc",
        "pHYs",
        "eXIf",
        "tIME",
        "own",
        "keyword",
    ],
)
def test_metadata_of_a_png_never_cost_its_pixels(metadata: bytes, at_end: bool) -> None:
    place = len(PNG) - 12 if at_end else 33  # before IEND, or after IHDR
    np.testing.assert_array_equal(decode_image(PNG[:place] + metadata + PNG[place:], LIMITS), np.array(PICTURE))


def test_orientation_in_a_compressed_png_text_is_applied() -> None:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 3
    text = b"\nexif\n%8d\n%s\n" % (len(exif.tobytes()), exif.tobytes().hex().encode())
    metadata = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))
    pixels = decode_image(PNG[:33] + metadata + PNG[33:], LIMITS)
    np.testing.assert_array_equal(pixels, np.array(PICTURE)[::-1, ::-1])


def test_a_wrong_checksum_of_pixels_is_damage() -> None:
    place = PNG.index(b"IDAT") + 20
    damaged = bytearray(PNG)
    damaged[place] ^= 1
    assert find_reason(bytes(damaged)) == "corrupt"


def with_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes `count` more times."""
    start = PROGRESSIVE.rindex(b"\xff\xda")
    return PROGRESSIVE[:-2] + PROGRESSIVE[start:-2] * count + PROGRESSIVE[-2:]


def test_scans_of_a_jpeg_are_bounded() -> None:
    num_scans = PROGRESSIVE.count(b"\xff\xda")
    assert find_reason(with_scans(2_000)) == "unsupported"
    assert find_detail(with_scans(257 - num_scans)) == "JPEG of more than 256 scans"
    with pytest.raises(ImageError) as caught:  # a refinement that comes again is damage, and not the number of scans
        decode_image(with_scans(256 - num_scans), LIMITS)
    assert "scans" not in caught.value.detail


def test_no_bytes_are_empty() -> None:
    assert find_reason(b"") == "empty"


def test_details_hold_nothing_of_the_file() -> None:
    secret = b"SECRETNAME"
    exif = Image.Exif()
    exif[0x010E] = secret.decode()
    data = encode(PICTURE, "JPEG", exif=exif)
    png = PNG.replace(b"IDAT", secret[:4])
    for damaged in (data[:-9], png, b"<html>" + secret, PNG[:12] + secret + PNG[22:]):
        assert "SECR" not in find_detail(damaged)


FUZZED = [JPEG, PROGRESSIVE, encode(PICTURE.convert("CMYK"), "JPEG"), PNG, WEBP]
FUZZED += [encode(PICTURE, image_format) for image_format in ("GIF", "BMP", "TIFF")]
FUZZED += [encode(PICTURE, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0")]


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    which=st.integers(0, len(FUZZED) - 1),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
    early=st.booleans(),
)
def test_flipped_bytes_raise_nothing_but_image_errors(which: int, flips: list[tuple[float, int]], early: bool) -> None:
    data = bytearray(FUZZED[which])
    for place, value in flips:
        data[int(place * (min(400, len(data)) if early else len(data)))] = value
    try:
        pixels = decode_image(bytes(data), ImageLimitsConfig(max_pixels=1_000_000))
    except ImageError as error:
        assert error.reason in REASONS  # noqa: PT017
    else:
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3


def test_a_cut_photo_of_a_phone_is_truncated_and_a_large_one_is_refused_on_its_header() -> None:
    register_heif()
    data = encode(PICTURE, "HEIF")
    assert {find_reason(data[:cut]) for cut in range(len(data) - 300, len(data), 37)} == {"truncated"}
    assert {find_reason(data[:cut]) for cut in range(20, 200, 13)} <= {"truncated", "unsupported"}
    with pytest.raises(ImageError) as caught:
        decode_image(data, ImageLimitsConfig(max_pixels=100))
    assert caught.value.reason == "too_many_pixels"
