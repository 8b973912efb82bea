"""Splits: train, val and test by the hash of a group key, so that a row's split depends only on the data and a seed.

    key   = group if known (one person's images stay together), else sha256 of the bytes, else image_id
    split = the one in whose share of [0, 1) the hash of (seed, key) falls

Row order does not matter, and new images do not move the old ones unless they are copies of them. Byte-identical images
are never in different splits: if copies have different groups, those groups are joined (union-find). Official splits
are kept, with one exception: if copies are in several splits, all go to the most held-out one (test before val before
train), so that a leak is removed from the training set. An official split may separate a person's images.

Memory: groups with copies or official splits, and contents that occur more than once, at about 200 bytes each; for all
other rows 8 bytes, which `RepeatedKeys` spills to disk beyond two million. Images are never in memory.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from faceattr.data.formats.repeated_keys import RepeatedKeys
from faceattr.data.packed.copies.components import Components
from faceattr.errors import ConfigError

SPLITS = ("train", "val", "test")  # ordered from least to most held out
KEPT_SPLITS: Mapping[str, str | None] = {name: name for name in SPLITS}
_COLUMNS = ["image_id", "sha256", "group", "split"]


@dataclass(frozen=True, kw_only=True)
class SplitRatios:
    """Shares of the splits; they are divided by their sum."""

    train: float = 0.8
    val: float = 0.1
    test: float = 0.1

    def __post_init__(self) -> None:
        shares = (self.train, self.val, self.test)
        if not all(math.isfinite(share) and share >= 0 for share in shares) or not sum(shares):
            raise ConfigError(
                f"split ratios {shares}: expected numbers from 0 up that are not all 0, such as 0.8 0.1 0.1"
            )

    def split_at(self, place: float) -> int:
        """Returns the index in SPLITS for a value in [0, 1)."""
        shares = (self.train, self.val, self.test)
        total, end = sum(shares), 0.0
        for index, share in enumerate(shares):
            end += share / total
            if place < end:
                return index
        # Rounding can leave the last end slightly below 1.
        return max(index for index, share in enumerate(shares) if share)


@dataclass(frozen=True, kw_only=True)
class SplitAssignment:
    """Assigns every row its split; picklable, so that workers can use it.

    Attributes:
        ratios: shares.
        seed: random seed of the hash.
        official: the split that each official name becomes; None: the row is drawn by hash.
        keys: for joined nodes, the key that is drawn with instead of their own.
        pinned: for nodes bound by official rows, the index in SPLITS.
    """

    ratios: SplitRatios
    seed: int
    official: Mapping[str, str | None]
    keys: Mapping[int, int]
    pinned: Mapping[int, int]

    def assign(self, table: pa.Table) -> pa.Array:
        """Returns the splits of rows with the columns image_id, sha256, group and split; string [n]."""
        rows = zip(*(table[name].to_pylist() for name in _COLUMNS), strict=True)
        return pa.array([SPLITS[self._split_of(*row)] for row in rows], pa.string())

    def _split_of(self, image_id: str, sha256: str | None, group: str | None, split: str | None) -> int:
        given = _official_index(split, self.official)
        content = None if sha256 is None else _node("content", sha256)
        if given is not None:
            return given if content is None else self.pinned.get(content, given)
        node = _own_node(image_id, content, group)
        if node in self.pinned:
            return self.pinned[node]
        return self.ratios.split_at(_draw(self.seed, self.keys.get(node, node)))


def plan_splits(
    read: Callable[[], Iterable[pa.Table]],
    *,
    ratios: SplitRatios | None = None,
    seed: int = 0,
    official: Mapping[str, str | None] = KEPT_SPLITS,
) -> SplitAssignment:
    """Reads all keys, in two passes, and decides what belongs together.

    Args:
        read: starts a new pass over tables with the columns image_id, sha256 (null: the image could not be read), group
            and split; rows that are known to be left out should be left out here, too.
        ratios: shares of the rows without an official split.
        seed: random seed of the hash.
        official: what the official names become: KEPT_SPLITS keeps them, {} ignores them, and
            {"train": None, "val": "test"} tests on the official val and draws train and val from the official train.
    """
    repeated = _repeated_contents(read())
    joined = Components()
    pins: dict[int, int] = {}
    for table in read():
        for image_id, sha256, group, split in zip(*(table[name].to_pylist() for name in _COLUMNS), strict=True):
            is_copy = sha256 is not None and RepeatedKeys.hash(sha256) in repeated
            content = _node("content", sha256) if is_copy else None
            given = _official_index(split, official)
            if given is not None:
                # Its group is not joined: an official split may separate a person's images on purpose.
                for node in (content, None if group is None else _node("group", group)):
                    if node is not None:
                        pins[node] = max(given, pins.get(node, given))
            elif content is not None:
                joined.join(content, _own_node(image_id, content, group))
    bound: dict[int, int] = {}
    for node, index in pins.items():
        root = joined.root(node)
        bound[root] = max(index, bound.get(root, index))
    nodes = {*joined.nodes(), *pins}
    return SplitAssignment(
        ratios=ratios or SplitRatios(),
        seed=seed,
        official=dict(official),
        keys={node: joined.root(node) for node in joined.nodes()},
        pinned={node: bound[joined.root(node)] for node in nodes if joined.root(node) in bound},
    )


def count_moved(table: pa.Table, splits: pa.Array, *, official: Mapping[str, str | None] = KEPT_SPLITS) -> int:
    """Returns the number of rows that left their official split because a copy of them is more held out."""
    given = [official.get(split) if split is not None else None for split in table["split"].to_pylist()]
    return sum(1 for old, new in zip(given, splits.to_pylist(), strict=True) if old is not None and old != new)


def _official_index(split: str | None, official: Mapping[str, str | None]) -> int | None:
    if split is None or not official:
        return None
    if split not in official:
        raise ConfigError(f"official split {split!r}: expected one of {', '.join(official)}; say what it should become")
    becomes = official[split]
    if becomes is not None and becomes not in SPLITS:
        raise ConfigError(f"official split {split!r} should become {becomes!r}; expected one of {', '.join(SPLITS)}")
    return None if becomes is None else SPLITS.index(becomes)


def _node(kind: str, text: str) -> int:
    """Returns a 64-bit name. Two nodes with equal names are kept together, which is harmless."""
    return int.from_bytes(hashlib.blake2b(f"{kind}\0{text}".encode(), digest_size=8).digest(), "little")


def _own_node(image_id: str, content: int | None, group: str | None) -> int:
    if group is not None:
        return _node("group", group)
    return _node("image", image_id) if content is None else content


def _draw(seed: int, key: int) -> float:
    digest = hashlib.blake2b(f"{seed}\0{key}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) / 2.0**53


def _repeated_contents(tables: Iterable[pa.Table]) -> frozenset[int]:
    with RepeatedKeys() as contents:
        for table in tables:
            contents.add(pc.drop_null(table["sha256"]))
        return contents.hashes()
