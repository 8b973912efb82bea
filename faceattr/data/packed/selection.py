"""A selection of a source's images: all with a yes for one of some attributes, and N with a no for all of them.

The CelebA accessory classifier built its training set in this way: every image of the rare classes, and `mixed_num`
negatives. The negatives are drawn by hash, so they do not depend on the row order.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from faceattr.data.sources.options import near_hint
from faceattr.data.sources.source import Rejects, SourceLabels
from faceattr.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SelectionCounts:
    """Counts of a selection.

    Attributes:
        positives: images with a yes for one of the attributes; all are taken.
        negatives: images with a no for all of them that were taken.
        left_out: all others, including those with an unknown label and no yes.
    """

    positives: int
    negatives: int
    left_out: int


def select_labels(
    source: SourceLabels, *, any_of: Sequence[str], negatives: int, seed: int
) -> tuple[SourceLabels, SelectionCounts]:
    """Returns the selected rows as a source; reads all rows once.

    Memory is 8 bytes per image with a no for all attributes.

    Raises:
        ConfigError: an attribute is not a binary attribute of the source, or there are fewer negatives than requested.
    """
    binary = [each.name for each in source.attributes.attributes if each.is_yes_no]
    for name in any_of:
        if name not in binary:
            raise ConfigError(f"--select.any-of: {name!r} is not a binary attribute here; {near_hint(name, binary)}")
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
    """Returns bool [n] twice: which rows have a yes, and which have a no for all."""
    labels = np.stack([table[name].fill_null(-1).to_numpy() for name in any_of])
    return (labels == 1).any(axis=0), (labels == 0).all(axis=0)


def _draw(table: pa.Table, seed: int) -> np.ndarray:
    keys = (f"select\0{seed}\0{image_id}".encode() for image_id in table["image_id"].to_pylist())
    hashes = (int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") for key in keys)
    return np.fromiter(hashes, np.uint64, len(table))
