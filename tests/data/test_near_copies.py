"""Groups of near copies: against a comparison of all pairs, and groups that were worked out by hand."""

import numpy as np
import pyarrow as pa
import pytest

from faceattr.data.images.perceptual_hash import MIRRORED_BITS
from faceattr.data.packed.copies.near import HASH_FIELD, find_near_copies, pairs_within
from faceattr.data.packed.plan import SplitRules
from faceattr.data.packed.splits import KEPT_SPLITS, SplitRatios

MIRROR = tuple(MIRRORED_BITS.tolist())


def differs(one: tuple[int, int], other: tuple[int, int]) -> int:
    """The larger number of different bits in a half, mirrored or not."""
    plain = max((a ^ b).bit_count() for a, b in zip(one, other, strict=True))
    mirrored = max((a ^ b ^ m).bit_count() for a, b, m in zip(one, other, MIRROR, strict=True))
    return min(plain, mirrored)


@pytest.mark.parametrize("distance", [0, 1, 3, 6, 8])
def test_pairs_are_those_of_a_comparison_of_all(distance):
    rng = np.random.default_rng(distance)
    found = {tuple(each) for each in rng.integers(0, 2**64, (60, 2), np.uint64).tolist()}
    for one, other in sorted(found):  # relatives with up to 12 other bits in a half, some of them mirrored
        for _ in range(4):
            halves = [one, other]
            for place in range(2):
                for bit in rng.choice(64, rng.integers(0, 13), replace=False):
                    halves[place] ^= 1 << int(bit)
            mirrors = MIRROR if rng.random() < 0.5 else (0, 0)
            found.add((halves[0] ^ mirrors[0], halves[1] ^ mirrors[1]))
        found.add((one, other ^ 1))  # the same first half twice
    smaller = {min(each, (each[0] ^ MIRROR[0], each[1] ^ MIRROR[1])) for each in found}
    hashes = np.array(sorted(smaller), np.uint64)
    values = [tuple(each) for each in hashes.tolist()]
    expected = {
        (one, other)
        for one in range(len(values))
        for other in range(one)
        if differs(values[one], values[other]) <= distance
    }
    assert len(expected) > (60 if distance else -1)
    pairs = [pair for pairs in pairs_within(hashes, distance) for pair in pairs.tolist()]
    assert {(max(pair), min(pair)) for pair in pairs if pair[0] != pair[1]} == expected


def hashed(first: int, second: int = 0) -> bytes:
    """A hash by its halves, in the form of the two that is the smaller."""
    forms = ((first, second), (first ^ MIRROR[0], second ^ MIRROR[1]))
    return min(one.to_bytes(8, "big") + other.to_bytes(8, "big") for one, other in forms)


def rows(*entries: tuple[str, str | None, bytes | None]) -> pa.Table:
    ids, contents, hashes = zip(*entries, strict=True)
    return pa.table(
        {"image_id": ids, "sha256": pa.array(contents, pa.string()), HASH_FIELD.name: pa.array(hashes, HASH_FIELD.type)}
    )


TABLES = [
    rows(
        ("a", "A", hashed(0b0000)),
        ("b", "B", hashed(0b0011)),
        ("c", "C", hashed(0b1111, 0b1)),
        ("far", "F", hashed(0b0011, 0xFF)),  # near in the first half alone
    ),
    rows(
        ("same1", "S", hashed(0xFF << 40)),
        ("same2", "S", hashed(0xFF << 40)),
        ("none", None, None),
        ("d", "D", hashed(0b1111, 0b1)),
    ),
]


def test_groups_are_chains_of_different_contents():
    found = find_near_copies(lambda: TABLES, 2)
    # a - b - c are two bits apart each, d has c's hash; same1 and same2 are byte-identical and no near copies.
    assert [(each.group, each.image_id, each.sha256, each.hash) for each in found.copies] == [
        (hashed(0), "a", "A", hashed(0)),
        (hashed(0), "b", "B", hashed(3)),
        (hashed(0), "c", "C", hashed(15, 1)),
        (hashed(0), "d", "D", hashed(15, 1)),
    ]
    contents = [each for table in TABLES for each in found.contents_of(table).to_pylist()]
    near = f"near {hashed(0).hex()}"
    assert contents == [near, near, near, "F", "S", "S", None, near]
    assert found.summarise() == {"groups": 1, "images": 4, "examples": [["a", "b"]]}
    lines = found.encode().decode().splitlines()
    assert lines[:2] == ["group,image_id,sha256,hash", f"{hashed(0).hex()},a,A,{hashed(0).hex()}"]
    assert len(lines) == 5


def test_a_smaller_distance_breaks_the_chain():
    found = find_near_copies(lambda: TABLES, 1)
    assert [each.image_id for each in found.copies] == ["c", "d"]
    assert found.groups == {hashed(15, 1): hashed(15, 1)}


def test_no_image_needs_a_hash():
    table = rows(("a", None, None))
    found = find_near_copies(lambda: [table], 4)
    assert found.copies == ()
    assert found.contents_of(table).to_pylist() == [None]
    assert found.summarise() == {"groups": 0, "images": 0, "examples": []}


def test_near_copies_follow_the_most_held_out_one():
    numbers = [(number + 1) * 0x0123_4567_89AB_CDEF % 2**63 for number in range(40)]
    entries = [(f"{place}", f"{place}", hashed(number)) for place, number in enumerate(numbers)]
    table = rows(*entries, ("copy", "other bytes", hashed(numbers[7] ^ 1)))
    splits = ["train"] * 40 + ["val"]
    table = table.append_column("group", pa.nulls(41, pa.string())).append_column("split", pa.array(splits))
    ratios = SplitRatios(train=0.5, val=0.25, test=0.25)

    def assigned(near, official):
        rules = SplitRules(ratios=ratios, seed=1, official=official, by_group=True, near=near)
        return rules.assign(rules.plan(lambda: [table]), table).to_pylist()

    near = find_near_copies(lambda: [table], 1)
    assert [each.image_id for each in near.copies] == ["7", "copy"]
    assert assigned(None, KEPT_SPLITS) == splits
    assert assigned(near, KEPT_SPLITS) == [*splits[:7], "val", *splits[8:]]
    drawn, plain = assigned(near, {}), assigned(None, {})
    assert drawn[7] == drawn[40]
    assert [*drawn[:7], *drawn[8:40]] == [*plain[:7], *plain[8:40]]  # no other image moves
