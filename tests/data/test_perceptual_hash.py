"""The perceptual hash of one picture: against scipy's cosine transform, mirrored, re-encoded, and of one colour."""

import io

import numpy as np
import pytest
import scipy.fft
from PIL import Image, ImageOps

from faceattr.data.images.perceptual_hash import MIRRORED_BITS, are_close, decode_hashes, hash_picture
from faceattr.demo.faces import build_face_rng, draw_face


def face(number: int, size_px: int = 96) -> Image.Image:
    return Image.fromarray(draw_face(build_face_rng(5, number), size_px).image)


def closeness(one: Image.Image, other: Image.Image) -> int:
    """The least distance at which two pictures are close."""
    hashes = [hash_picture(np.asarray(each)) for each in (one, other)]
    first, second = (decode_hashes(each or b"") for each in hashes)
    return next(bits for bits in range(65) if are_close(first, second, bits).all())


def test_the_bits_are_signs_of_the_cosine_transform():
    picture = face(0)
    gray = np.asarray(picture.convert("L").resize((32, 32), Image.Resampling.BOX), float)
    low = [(0, each) for each in range(1, 16)]  # the lowest of the others begin beside the square of 1 to 8
    forms = []
    for pixels in (gray, gray[:, ::-1]):
        transform = scipy.fft.dctn(pixels, type=2)
        first = "".join("1" if value > 0 else "0" for value in transform[1:9, 1:9].ravel())
        others = [(down, across) for down in range(16) for across in range(16) if not (1 <= down <= 8 >= across >= 1)]
        lowest = sorted(others[1:], key=lambda each: (each[0] + each[1], each))[:64]
        second = "".join("1" if transform[each] > 0 else "0" for each in lowest)
        forms.append(int(first + second, 2).to_bytes(16, "big"))
    assert set(low[:8]) <= set(lowest)
    assert hash_picture(np.asarray(picture)) == min(forms)


@pytest.mark.parametrize("size", [(96, 96), (97, 61), (20, 31)])
def test_a_mirrored_picture_has_the_same_hash_up_to_rounding(size):
    picture = face(1).resize(size)
    # Pillow rounds gray levels, which may turn a sign whose frequency is next to 0.
    assert closeness(picture, ImageOps.mirror(picture)) <= 1


def test_close_means_few_bits_in_each_half_mirrored_or_not():
    assert int(MIRRORED_BITS[0]).bit_count() == 32
    one = np.array([[0b111, 0]] * 4, np.uint64)
    other = np.array([[0b111, 0b11], [0, 0], [0, 0b1111], [0b111, 0]], np.uint64)
    other[3] ^= MIRRORED_BITS
    assert are_close(one, other, 3).tolist() == [True, True, False, True]
    assert are_close(one, other, 2).tolist() == [True, False, False, True]


def test_a_resized_and_re_encoded_mirrored_copy_is_close_and_another_face_is_not():
    picture = face(2, 160)
    buffer = io.BytesIO()
    ImageOps.mirror(picture).resize((80, 80)).save(buffer, "JPEG", quality=60)
    assert closeness(picture, Image.open(buffer)) <= 6
    assert closeness(picture, face(3, 160)) > 10


def test_a_picture_of_one_colour_has_none():
    assert hash_picture(np.full((40, 30, 3), 200, np.uint8)) is None
