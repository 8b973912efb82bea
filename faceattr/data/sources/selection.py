"""A choice of a source's images: all with a yes for one of some attributes, and so many with a no for all of them.

That is how the CelebA accessory classifier made its training set: every image of the rare classes,
and `mixed_num` negatives. The negatives are drawn by hash, so they do not depend on the order of the rows.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from faceattr.data.sources.label_table import SourceLabels
from faceattr.data.sources.options import near_hint
from faceattr.data.sources.rejects import Rejects
from faceattr.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SelectionCounts:
    """What a selection did.

    Attributes:
        positives: images with a yes for one of the attributes, all taken.
        negatives: images with a no for all of them that were taken.
        left_out: the others, those with an unknown label and no yes among them.
    """

    positives: int
    negatives: int
    left_out: int


def select_labels(
    source: SourceLabels, *, any_of: Sequence[str], negatives: int, seed: int
) -> tuple[SourceLabels, SelectionCounts]:
    """The chosen rows as a source; looks at all rows once.

    Memory is 8 bytes for each image with a no for all.

    Raises:
        ConfigError: an attribute is not among the source's binary ones, or there are fewer negatives than asked for.
    """
    binary = [each.name for each in source.attributes.attributes if each.kind == "binary"]
    for name in any_of:
        if name not in binary:
            raise ConfigError(f"--select.any-of: {name!r} is no binary attribute here; {near_hint(name, binary)}")
    num_rows = num_positive = 0
    draws = []
    for table in source.tables(Rejects()):
        has_yes, all_no = _judge(table, any_of)
        num_rows += len(table)
        num_positive += int(has_yes.sum())
        draws.append(_draw(table.filter(pa.array(all_no)), seed))
    found = np.sort(np.concatenate([np.empty(0, np.uint64), *draws]))
    if len(found) < negatives:
        raise ConfigError(
            f"--select.negatives {negatives}: only {len(found):,} images have a no for all of {', '.join(any_of)}"
        )
    last = found[negatives - 1] if negatives else None

    def read(rejects: Rejects) -> Iterator[pa.Table]:
        for table in source.tables(rejects):
            has_yes, all_no = _judge(table, any_of)
            drawn = all_no & (_draw(table, seed) <= last) if last is not None else np.zeros(len(table), bool)
            chosen = table.filter(pa.array(has_yes | drawn))
            if len(chosen):
                yield chosen

    counts = SelectionCounts(positives=num_positive, negatives=negatives, left_out=num_rows - num_positive - negatives)
    return replace(source, read=read), counts


def _judge(table: pa.Table, any_of: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Bool [n]: which rows have a yes, and which have a no throughout."""
    labels = np.stack([table[name].fill_null(-1).to_numpy() for name in any_of])
    return (labels == 1).any(axis=0), (labels == 0).all(axis=0)


def _draw(table: pa.Table, seed: int) -> np.ndarray:
    keys = (f"select\0{seed}\0{image_id}".encode() for image_id in table["image_id"].to_pylist())
    hashes = (int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") for key in keys)
    return np.fromiter(hashes, np.uint64, len(table))
