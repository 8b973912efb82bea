"""Images: every format against Pillow's own pixels, and every kind of damage against a named reason."""

import io
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

# Pillow warns of damaged metadata, of which there is much here.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

LIMITS = ImageLimitsConfig()
ORIENTATION_TAG = 0x0112


def draw_picture(width: int = 61, height: int = 37) -> Image.Image:
    """Smooth and asymmetric, odd-sized so that chroma subsampling has edges to get wrong."""
    noise = np.random.default_rng(3).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, image_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def read_with_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB"))


def find_reason(data: bytes, limits: ImageLimitsConfig = LIMITS) -> str:
    with pytest.raises(ImageError) as caught:
        decode_image(data, limits)
    assert caught.value.reason in REASONS
    return caught.value.reason


def find_detail(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode_image(data, LIMITS)
    return caught.value.detail


PICTURE = draw_picture()
JPEG = encode(PICTURE, "JPEG", quality=90)
PROGRESSIVE = encode(PICTURE, "JPEG", quality=90, progressive=True)
PNG = encode(PICTURE, "PNG")
WEBP = encode(PICTURE, "WEBP")


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
@pytest.mark.parametrize("quality", [30, 95])
def test_colour_jpegs_equal_pillow_bit_for_bit(quality: int, subsampling: str, progressive: bool) -> None:
    data = encode(PICTURE, "JPEG", quality=quality, subsampling=subsampling, progressive=progressive)
    np.testing.assert_array_equal(decode_image(data, LIMITS), read_with_pillow(data))


@pytest.mark.parametrize(
    "data",
    [
        encode(PICTURE.convert("L"), "JPEG"),
        encode(PICTURE.convert("CMYK"), "JPEG"),
        encode(PICTURE, "JPEG", keep_rgb=True),
        encode(PICTURE, "JPEG", optimize=True, restart_marker_blocks=2),
        encode(PICTURE, "MPO", save_all=True, append_images=[draw_picture(20, 20)]),
        encode(draw_picture(1, 1), "JPEG"),
        encode(draw_picture(1, 300), "PNG"),
        encode(PICTURE.convert("1"), "PNG"),
        encode(PICTURE.convert("L"), "PNG"),
        encode(PICTURE.convert("P", palette=Image.Palette.ADAPTIVE), "PNG"),
        PNG,
        WEBP,
        encode(PICTURE, "WEBP", lossless=True),
        encode(PICTURE, "BMP"),
        encode(PICTURE.convert("P", palette=Image.Palette.ADAPTIVE), "GIF"),
        encode(PICTURE, "TIFF"),
        encode(PICTURE, "TIFF", compression="tiff_lzw"),
        encode(PICTURE, "TIFF", compression="jpeg"),
        encode(PICTURE.convert("CMYK"), "TIFF"),
        encode(PICTURE, "AVIF"),
    ],
)
def test_other_opaque_images_equal_pillow(data: bytes) -> None:
    pixels = decode_image(data, LIMITS)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    np.testing.assert_array_equal(pixels, read_with_pillow(data))


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    for image_format in ("GIF", "WEBP", "PNG", "AVIF"):
        data = encode(frames[0], image_format, save_all=True, append_images=frames[1:])
        assert np.abs(decode_image(data, LIMITS).astype(int) - [255, 0, 0]).max() <= 3, image_format


def test_transparency_is_laid_over_white() -> None:
    # Opaque red, half transparent black, fully transparent green.
    rgba = np.array([[[255, 0, 0, 255], [0, 0, 0, 128], [0, 255, 0, 0]]], np.uint8)
    expected = [[[255, 0, 0], [127, 127, 127], [255, 255, 255]]]
    for image_format, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
        data = encode(Image.fromarray(rgba), image_format, **options)
        np.testing.assert_array_equal(decode_image(data, LIMITS), expected)
    gray_alpha = encode(Image.fromarray(np.array([[[9, 255], [9, 0]]], np.uint8), "LA"), "PNG")
    np.testing.assert_array_equal(decode_image(gray_alpha, LIMITS), [[[9] * 3, [255] * 3]])
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    for image_format in ("PNG", "GIF"):
        data = encode(palette, image_format, transparency=1)
        np.testing.assert_array_equal(decode_image(data, LIMITS), [[[10, 20, 30], [255] * 3]])


def test_16_bit_gray_keeps_its_range() -> None:
    gray = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    for image_format in ("PNG", "TIFF"):
        pixels = decode_image(encode(Image.fromarray(gray), image_format), LIMITS)
        np.testing.assert_array_equal(pixels, np.array([[0, 0, 1, 128, 255]])[..., np.newaxis].repeat(3, axis=2))


def test_16_bit_colour_keeps_its_range() -> None:
    row = b"\0" + struct.pack(">6H", 0, 255, 256, 32768, 65280, 65535)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    data = PNG[:8] + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(decode_image(data, LIMITS), [[[0, 0, 1], [128, 255, 255]]])


# Where the four corners of an upright picture, a b / c d, are stored under each EXIF orientation: the tag names the
# sides of the picture that the stored first row and first column are.
STORED = {1: "ab/cd", 2: "ba/dc", 3: "dc/ba", 4: "cd/ab", 5: "ac/bd", 6: "bd/ac", 7: "db/ca", 8: "ca/db"}
CORNERS = {"a": (250, 10, 10), "b": (10, 250, 10), "c": (10, 10, 250), "d": (250, 250, 10)}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_exif_orientation_is_applied(image_format: str, orientation: int) -> None:
    height, width = (24, 16) if orientation < 5 else (16, 24)
    stored = np.zeros((height, width, 3), np.uint8)
    for row, letters in enumerate(STORED[orientation].split("/")):
        for column, letter in enumerate(letters):
            stored[row * height // 2 :, column * width // 2 :] = CORNERS[letter]
    register_heif()
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    options = {"TIFF": {}, "PNG": {}}.get(image_format, {"quality": 100})
    # Of HEIF its own boxes count, which the encoder writes for an EXIF in bytes.
    written = exif.tobytes() if image_format == "HEIF" else exif
    data = encode(Image.fromarray(stored), image_format, exif=written, **options)
    pixels = decode_image(data, LIMITS)
    assert pixels.shape == (24, 16, 3)
    found = [pixels[row, column].astype(int) for row in (2, -3) for column in (2, -3)]
    np.testing.assert_allclose(found, [CORNERS[letter] for letter in "abcd"], atol=12)


def test_orientation_in_xmp_is_applied_and_damaged_exif_ignored() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    assert decode_image(encode(PICTURE, "JPEG", xmp=xmp), LIMITS).shape == (61, 37, 3)
    broken = encode(PICTURE, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f\x12\x01\x03\0")
    np.testing.assert_array_equal(decode_image(broken, LIMITS), read_with_pillow(encode(PICTURE, "JPEG")))


@pytest.mark.parametrize("data", [JPEG, PROGRESSIVE, PNG, WEBP], ids=["jpeg", "progressive", "png", "webp"])
def test_a_file_cut_anywhere_is_truncated(data: bytes) -> None:
    for cut in [*range(16, len(data), 7), *range(len(data) - 30, len(data))]:
        assert find_reason(data[:cut]) == "truncated", cut


def test_a_file_cut_in_the_first_bytes_is_refused() -> None:
    for data in (JPEG, PNG, WEBP):
        for cut in range(1, 16):
            find_reason(data[:cut])


@pytest.mark.parametrize("image_format", ["BMP", "TIFF", "AVIF", "GIF"])
def test_other_formats_cut_within_their_pixels_are_refused(image_format: str) -> None:
    data = encode(PICTURE, image_format)
    for cut in range(20, len(data) - 40, 53):
        assert find_reason(data[:cut]) in ("truncated", "corrupt"), cut


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


def test_a_buffer_receives_the_pixels_if_they_fit() -> None:
    buffer = np.zeros(61 * 37 * 3 + 5, np.uint8)
    pixels = decode_image(JPEG, LIMITS, buffer=buffer)
    assert np.shares_memory(pixels, buffer)
    np.testing.assert_array_equal(buffer[:-5].reshape(37, 61, 3), read_with_pillow(JPEG))
    np.testing.assert_array_equal(decode_image(JPEG, LIMITS, buffer=buffer[:100]), read_with_pillow(JPEG))
    np.testing.assert_array_equal(decode_image(PNG, LIMITS, buffer=buffer), read_with_pillow(PNG))


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
