"""Random numbers of training views: a function of each image's seed alone, for all images of a block at once.

Seeding torch's or NumPy's generators costs more per image than cropping it. Here the k-th number of an image is a hash
of its seed and k: the outputs of SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators",
OOPSLA 2014) with the image's seed as the state.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_INCREMENT = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
# Every operation has numbers of its own, so that a new one does not change the draws of the others.
_OPERATIONS = ("crop", "flip", "color", "blur", "rain", "fog", "policy", "erasing")
_MOST_DRAWS = 64


def image_seed(seed: int, *, epoch: int, row: int) -> int:
    """Returns the seed of one image in one epoch of a run, from 0 to 2**63 - 1; close inputs give unrelated seeds."""
    digest = hashlib.blake2b(f"{seed} {epoch} {row}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class RandomNumbers:
    """The random numbers of one operation for n images, one call after the other.

    Args:
        seeds: seeds of the images from `image_seed`.
        operation: name of the operation.
    """

    def __init__(self, seeds: Sequence[int], operation: str) -> None:
        self._seeds = np.array(seeds, np.uint64)
        self._first = _MOST_DRAWS * _OPERATIONS.index(operation)
        self._num_drawn = 0

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Floats:
        """Draws uniform numbers in [low, high), float64 [n]."""
        return self.uniform_many(1, low, high)[:, 0]

    def uniform_many(self, count: int, low: float = 0.0, high: float = 1.0) -> Floats:
        """Draws uniform numbers in [low, high), float64 [n, count]."""
        places = self._first + self._num_drawn + np.arange(count)
        self._num_drawn += count
        if self._num_drawn > _MOST_DRAWS:
            raise ValueError(f"expected at most {_MOST_DRAWS} draws of an operation, found {self._num_drawn}")
        # The 53 high bits fill the mantissa of a float64.
        fractions = (splitmix64(self._seeds[:, None], places[None]) >> np.uint64(11)) * 2.0**-53
        return np.asarray(low + (high - low) * fractions, np.float64)

    def happens(self, probability: float) -> npt.NDArray[np.bool_]:
        """Draws bool [n], True with the given probability."""
        return self.uniform() < probability


def splitmix64(states: npt.NDArray[np.uint64], places: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Returns the outputs at `places`, counted from 0, of SplitMix64 generators with these initial states."""
    values = states + _INCREMENT * (places + 1).astype(np.uint64)
    values = (values ^ (values >> np.uint64(30))) * _MULTIPLIERS[0]
    values = (values ^ (values >> np.uint64(27))) * _MULTIPLIERS[1]
    return values ^ (values >> np.uint64(31))
