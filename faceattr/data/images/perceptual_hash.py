"""Two 64-bit hashes of what a picture shows: resized, re-encoded and mirrored copies get equal or close ones.

The picture in gray is reduced to 32 x 32 pixels, and a bit is the sign of a low frequency of its discrete cosine
transform (DCT-II): C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010, section 3.2.1
(pHash). Two hashes are compared by their Hamming distance, the number of different bits.

    first half    frequencies 1 to 8 in both directions, as in the source: what is searched by
    second half   the 64 lowest of the others: crops of different faces that are alike in the first half differ here

Mirroring left and right changes the sign of every odd horizontal frequency and of no other. So the mirrored picture's
hash is this one with these bits flipped, and the smaller of the two is the hash of both.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from faceattr.data.images.decode import Pixels

# To be increased by hand when a change can change a hash.
HASH_VERSION = 1
HASH_BYTES = 16
HALF_BITS = 64
_SIDE_PX = 32
_MOST = 16  # frequencies per direction from which the second half is chosen
_SEARCHED = [(down, across) for down in range(1, 9) for across in range(1, 9)]
_OTHERS = sorted(
    {(down, across) for down in range(_MOST) for across in range(_MOST)} - {(0, 0), *_SEARCHED},
    key=lambda each: (sum(each), each),
)
_DOWN, _ACROSS = np.array([*_SEARCHED, *_OTHERS[:HALF_BITS]]).T
_COSINES = np.cos(np.pi / _SIDE_PX * np.arange(_MOST)[:, None] * (np.arange(_SIDE_PX) + 0.5))
Hashes = npt.NDArray[np.uint64]
"""uint64 [n, 2], the two halves."""
# Gray levels, of 255. The signs of a picture with less contrast are noise, so that it has no hash.
_LEAST_CONTRAST = 2.0


def _pack(bits: npt.NDArray[np.bool_]) -> Hashes:
    """Packs bool [n, 128] into hashes; the first bit of a half is its highest."""
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64)


MIRRORED_BITS = _pack(_ACROSS[None] % 2 == 1)[0]
"""uint64 [2], the bits that mirroring flips."""


def hash_picture(pixels: Pixels) -> bytes | None:
    """Returns the hash of a picture and of its mirrored copy, 16 bytes; None if the picture is of one colour.

    Args:
        pixels: uint8 [H, W, 3], upright.
    """
    image = Image.fromarray(pixels).convert("L")
    gray = np.asarray(image.resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BOX), np.float64)
    if gray.std() < _LEAST_CONTRAST:
        return None
    transform = _COSINES @ gray @ _COSINES.T
    (found,) = _pack(transform[None, _DOWN, _ACROSS] > 0)
    return min(_encode(found), _encode(found ^ MIRRORED_BITS))


def _encode(hashed: Hashes) -> bytes:
    return hashed.astype(">u8").tobytes()


def decode_hashes(values: bytes) -> Hashes:
    """Returns the hashes of n concatenated values of `hash_picture`, uint64 [n, 2]."""
    return np.frombuffer(values, ">u8").reshape(-1, 2).astype(np.uint64)


def are_close(ones: Hashes, others: Hashes, distance: int) -> npt.NDArray[np.bool_]:
    """Returns which pairs of hashes, [n, 2], differ in at most `distance` bits of each half, mirrored or not."""
    differing = ones ^ others
    plain = (np.bitwise_count(differing) <= distance).all(1)
    mirrored = (np.bitwise_count(differing ^ MIRRORED_BITS) <= distance).all(1)
    close: npt.NDArray[np.bool_] = plain | mirrored
    return close
