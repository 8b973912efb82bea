"""Images: every format against Pillow's own pixels. Damage and limits are in test_image_damage.py,
every kind of file in tests/zoo."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from faceattr.data.images.decode import decode_image
from tests.data.pictures import (
    JPEG,
    LIMITS,
    PICTURE,
    PNG,
    WEBP,
    draw_picture,
    encode,
    read_with_pillow,
)

# Pillow warns of damaged metadata, of which there is much here.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


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


def test_orientation_in_xmp_is_applied_and_damaged_exif_ignored() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    assert decode_image(encode(PICTURE, "JPEG", xmp=xmp), LIMITS).shape == (61, 37, 3)
    broken = encode(PICTURE, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f\x12\x01\x03\0")
    np.testing.assert_array_equal(decode_image(broken, LIMITS), read_with_pillow(encode(PICTURE, "JPEG")))


def test_a_buffer_receives_the_pixels_if_they_fit() -> None:
    buffer = np.zeros(61 * 37 * 3 + 5, np.uint8)
    pixels = decode_image(JPEG, LIMITS, buffer=buffer)
    assert np.shares_memory(pixels, buffer)
    np.testing.assert_array_equal(buffer[:-5].reshape(37, 61, 3), read_with_pillow(JPEG))
    np.testing.assert_array_equal(decode_image(JPEG, LIMITS, buffer=buffer[:100]), read_with_pillow(JPEG))
    np.testing.assert_array_equal(decode_image(PNG, LIMITS, buffer=buffer), read_with_pillow(PNG))
