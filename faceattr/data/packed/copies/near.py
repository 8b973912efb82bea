"""Near copies: pictures whose perceptual hashes differ in few bits, kept in one split as byte-identical ones are.

Pairs within a distance d are found without comparing all pairs. The first half of a hash is cut into d + k blocks of
bits; two halves that differ in at most d bits agree in at least k whole blocks. So they are sorted once per choice of k
blocks, with the bits of these first, and only neighbours that agree in them are compared (several hash tables, as in
Norouzi, Punjani and Fleet, "Fast Search in Hamming Space with Multi-Index Hashing", 2012; sorted tables as in Manku,
Jain and Das Sarma, "Detecting Near-Duplicates for Web Crawling", 2007).

Memory: about 50 bytes per picture while pairs are searched, and then about 500 bytes per near copy.
"""

import csv
import io
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from faceattr.data.formats.csv_cells import neutralise
from faceattr.data.images.perceptual_hash import (
    HALF_BITS,
    HASH_BYTES,
    MIRRORED_BITS,
    Hashes,
    are_close,
    decode_hashes,
)
from faceattr.data.packed.copies.components import Components

HASH_FIELD = pa.field("picture_hash", pa.binary(HASH_BYTES))
"""Column of the rows that a plan is made from: `hash_picture` of the image; null if there is none."""
_CSV_HEADER = ("group", "image_id", "sha256", "hash")
_MOST_EXAMPLES = 3
_SPARE_BITS = 3  # by how many bits a table is finer than its rows need to be one per place
_CHUNK = 2**18  # hashes that are computed with at a time
_Halves = npt.NDArray[np.uint64]
_Places = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class NearCopy:
    """One picture of a group.

    Attributes:
        group: smallest hash of the group, which names it.
        image_id: id of the picture.
        sha256: of its bytes.
        hash: its perceptual hash.
    """

    group: bytes
    image_id: str
    sha256: str
    hash: bytes


@dataclass(frozen=True)
class NearCopies:
    """The groups of near copies in a data set.

    Attributes:
        copies: all pictures of all groups, sorted by group and id. Pictures of a group have at least two different
            contents: byte-identical images alone are none.
        groups: hash -> name of its group.
    """

    copies: tuple[NearCopy, ...]
    groups: Mapping[bytes, bytes]

    def contents_of(self, rows: pa.Table) -> pa.ChunkedArray:
        """Returns what identifies the content of each row: its group if it is a near copy, else its sha256; string [n].

        Args:
            rows: `sha256` and the column of `HASH_FIELD`.
        """
        places = pc.index_in(rows[HASH_FIELD.name], pa.array(list(self.groups), HASH_FIELD.type))
        names = pa.array([f"near {name.hex()}" for name in self.groups.values()], pa.string())
        return pc.coalesce(pc.take(names, places), rows["sha256"])

    def summarise(self) -> dict[str, Any]:
        """Returns JSON values: numbers of groups and of images in them, and the ids of two images of a few groups."""
        groups = [list(group) for _, group in itertools.groupby(self.copies, key=lambda each: each.group)]
        examples = [[each.image_id for each in group[:2]] for group in groups[:_MOST_EXAMPLES]]
        return {"groups": len(groups), "images": len(self.copies), "examples": examples}

    def encode(self) -> bytes:
        """Returns the groups as CSV."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(_CSV_HEADER)
        writer.writerows(
            (each.group.hex(), neutralise(each.image_id), each.sha256, each.hash.hex()) for each in self.copies
        )
        return buffer.getvalue().encode()


def find_near_copies(read: Callable[[], Iterable[pa.Table]], distance: int) -> NearCopies:
    """Finds all groups, in two passes over the rows. A group may be a chain of pictures, each close to the next.

    Args:
        read: starts a new pass over tables with image_id, sha256 and the column of `HASH_FIELD`.
        distance: largest number of different bits in each half of the hashes of two near copies, 0 to 8.
    """
    name = HASH_FIELD.name
    held = [_read_hashes(pc.drop_null(table[name])) for table in read()]
    everything = np.concatenate([np.empty((0, 2), np.uint64), *held])
    del held
    hashes, counts = np.unique(everything, axis=0, return_counts=True)
    del everything
    joined = Components()
    for pairs in pairs_within(hashes, distance):
        for first, second in pairs.tolist():
            joined.join(first, second)
    candidates = np.union1d(np.flatnonzero(counts > 1), np.fromiter(joined.nodes(), np.int64))
    names = [hashes[place].astype(">u8").tobytes() for place in candidates.tolist()]
    roots = [hashes[joined.root(place)].astype(">u8").tobytes() for place in candidates.tolist()]
    return _gather(read, dict(zip(names, roots, strict=True)))


def _gather(read: Callable[[], Iterable[pa.Table]], roots: Mapping[bytes, bytes]) -> NearCopies:
    """Returns the groups of pictures whose hashes have one root, if their contents differ."""
    name = HASH_FIELD.name
    groups: dict[bytes, list[NearCopy]] = defaultdict(list)
    wanted = pa.array(list(roots), HASH_FIELD.type)
    for table in read() if roots else ():
        rows = table.select(["image_id", "sha256", name]).filter(pc.is_in(table[name], wanted))
        for image_id, sha256, value in zip(*(column.to_pylist() for column in rows.columns), strict=True):
            group = roots[value]
            groups[group].append(NearCopy(group=group, image_id=image_id, sha256=sha256, hash=value))
    kept = [group for group in groups.values() if len({each.sha256 for each in group}) > 1]
    copies = sorted(itertools.chain(*kept), key=lambda each: (each.group, each.image_id))
    return NearCopies(tuple(copies), {each.hash: each.group for each in copies})


def _read_hashes(column: pa.ChunkedArray) -> Hashes:
    return decode_hashes(b"".join(column.to_pylist()))


def pairs_within(hashes: Hashes, distance: int) -> Iterator[_Places]:
    """Yields pairs of places of hashes that `are_close`, int64 [m, 2]; a pair may come repeatedly.

    Args:
        hashes: uint64 [n, 2], sorted and different from each other; each the smaller of its mirrored forms.
        distance: largest number of different bits in each half.
    """
    first = np.ascontiguousarray(hashes[:, 0])
    yield from _confirm(hashes, _neighbours(first, HALF_BITS, 0), distance)
    keys = np.empty(2 * len(first), np.uint64)
    for moves, prefix in _tables(len(first), distance):
        for start in range(0, len(first), _CHUNK):
            part = first[start : start + _CHUNK]
            keys[start : start + len(part)] = _move(part, moves)
            keys[len(first) + start :][: len(part)] = _move(part ^ MIRRORED_BITS[0], moves)
        keys.sort()
        back = [(there, here, width) for here, there, width in moves]
        for places in _neighbours(keys, prefix, distance):
            halves = _move(keys[places], back)
            forms = np.unique(np.minimum(halves, halves ^ MIRRORED_BITS[0]), axis=0)
            yield from _confirm(hashes, _holders(first, forms), distance)


def _tables(num_rows: int, distance: int) -> Iterator[tuple[list[tuple[int, int, int]], int]]:
    """Yields the order of the bits in each table, as (from bit, to bit, width), and the length of its prefix."""
    wanted = math.log2(2 * num_rows + 2) + _SPARE_BITS
    agreeing = next(each for each in itertools.count(1) if HALF_BITS * each >= wanted * (distance + each))
    widths = [len(each) for each in np.array_split(np.arange(HALF_BITS), distance + agreeing)]
    starts = (np.cumsum(widths) - widths).tolist()
    for chosen in itertools.combinations(range(len(widths)), agreeing):
        moves: list[tuple[int, int, int]] = []
        top = HALF_BITS
        for block in (*chosen, *(block for block in range(len(widths)) if block not in chosen)):
            top -= widths[block]
            moves.append((starts[block], top, widths[block]))
        yield moves, sum(widths[block] for block in chosen)


def _move(values: _Halves, moves: Sequence[tuple[int, int, int]]) -> _Halves:
    """Moves blocks of bits: (from bit, to bit, width)."""
    moved = np.zeros_like(values)
    for here, there, width in moves:
        bits = (values >> np.uint64(here)) & np.uint64((1 << width) - 1)
        moved |= bits << np.uint64(there)
    return moved


def _neighbours(keys: _Halves, prefix: int, distance: int) -> Iterator[_Places]:
    """Yields pairs of places of sorted keys that agree in their first `prefix` bits and are within the distance."""
    limit = 1 << (HALF_BITS - prefix)
    for start in range(0, len(keys) - 1, _CHUNK):
        first = np.arange(start, min(start + _CHUNK, len(keys) - 1))
        step = 1
        while len(first):
            differing = keys[first] ^ keys[first + step]
            agrees = differing < limit
            close = first[agrees & (np.bitwise_count(differing) <= distance)]
            yield np.stack([close, close + step], 1)
            step += 1
            first = first[agrees]
            first = first[first + step < len(keys)]


def _holders(first: _Halves, pairs: _Halves) -> Iterator[_Places]:
    """Yields the pairs of places whose first halves are the pairs of values; a value may be in several places."""
    starts = np.searchsorted(first, pairs, side="left")
    counts = np.searchsorted(first, pairs, side="right") - starts
    most = counts.max(0, initial=0)
    for one, other in itertools.product(range(most[0]), range(most[1])):
        there = (counts[:, 0] > one) & (counts[:, 1] > other)
        yield starts[there] + np.array([one, other])


def _confirm(hashes: Hashes, candidates: Iterable[_Places], distance: int) -> Iterator[_Places]:
    for places in candidates:
        yield places[are_close(hashes[places[:, 0]], hashes[places[:, 1]], distance)]
