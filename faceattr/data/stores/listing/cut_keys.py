"""Guesses keys that cut an unlisted range into pieces of a wanted size, from the keys that were listed in front of it.

Names of images count: `img_000999.jpg` is followed by `img_001000.jpg`, `n01/0009.jpg` by `n01/0010.jpg`, a hash by the
next hash. So a key is read as a number whose digits are its characters; a position where only digits were seen has ten
of them. The listed keys then say how many keys there are to a distance, and the pieces behind are that far apart. A
wrong guess costs requests, never a key: any cut of a range is a cut.
"""

import string
from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction

# Characters of a position that may follow those that were seen there. A single letter is part of a name that stays.
_CLASSES = (string.digits, string.hexdigits[:16], string.digits + "ABCDEF", string.ascii_lowercase)
# Size of a piece against what was listed: if it were as large, every second one would be a little larger than planned.
_PIECE = Fraction(7, 8)
# Positions behind those that all keys share: eight digits tell 10^8 keys apart.
_MOST_POSITIONS = 8


def guess_cuts(listed: Sequence[str], *, end: str | None, pieces: int) -> list[str]:
    """Returns keys that cut the range behind the listed keys.

    Args:
        listed: consecutive keys, ascending.
        end: the last key of the range that is cut; None if it has no end.
        pieces: the largest number of cuts; pieces between them are guessed to be a little smaller than `listed`.

    Returns:
        Ascending keys, after the last listed one and before `end`. None where the keys say nothing.
    """
    first, last = listed[0], listed[-1]
    alphabets = _find_alphabets(listed)
    start = _to_number(last, alphabets)
    step = int((start - _to_number(first, alphabets)) * _PIECE)
    if step <= 0:
        return []
    most = 1
    for alphabet in alphabets:
        most *= len(alphabet)
    cuts: list[str] = []
    for number in range(start + step, min(start + (pieces + 1) * step, most), step):
        key = _to_key(number, alphabets)
        if key > last and (end is None or key < end) and (not cuts or key > cuts[-1]):
            cuts.append(key)
    return cuts


def _find_alphabets(listed: Sequence[str]) -> list[str]:
    """Returns the characters that each position may have, ascending, from the first position on."""
    pairs = enumerate(zip(listed[0], listed[-1], strict=False))
    shared = next((position for position, (one, other) in pairs if one != other), len(listed[0]))
    depth = shared + _MOST_POSITIONS
    seen: list[set[str]] = [set() for _ in range(depth)]
    for key in listed:
        for position, character in enumerate(key[:depth]):
            seen[position].add(character)
    return [_widen(characters) for characters in seen if characters]


def _widen(seen: set[str]) -> str:
    if len(seen) == 1 and not seen <= set(string.digits):
        return "".join(seen)
    for known in _CLASSES:
        if seen <= set(known):
            return known
    return "".join(sorted(seen))


def _to_number(key: str, alphabets: Sequence[str]) -> int:
    number = 0
    for position, alphabet in enumerate(alphabets):
        digit = bisect_left(alphabet, key[position]) if position < len(key) else 0
        number = number * len(alphabet) + min(digit, len(alphabet) - 1)
    return number


def _to_key(number: int, alphabets: Sequence[str]) -> str:
    characters = []
    for alphabet in reversed(alphabets):
        number, digit = divmod(number, len(alphabet))
        characters.append(alphabet[digit])
    return "".join(reversed(characters))
