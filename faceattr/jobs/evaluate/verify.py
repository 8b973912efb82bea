"""Verification in an evaluation: the embeddings of the judged images, compared for the pairs of a list.

Embeddings are biometric data; they are used here and never written.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pyarrow as pa

from faceattr.data.formats.json_files import encode_versioned
from faceattr.data.formats.pair_lists import ImagePair
from faceattr.data.stores.store import Store
from faceattr.errors import ConfigError
from faceattr.evaluation.verification import PairFigures, judge_pairs

EMBEDDING = "embedding"
VERIFICATION_KEY = "verification.json"


def find_pairs(ids: Sequence[str], pairs: Sequence[ImagePair], *, name: str) -> list[ImagePair]:
    """Returns the pairs both of whose images are among some images.

    Args:
        ids: `image_id` of the images.
        pairs: the pairs.
        name: address of their list, for messages.

    Raises:
        ConfigError: there is no such pair, or an image of a pair is there twice.
    """
    counts = Counter(ids)
    found = [pair for pair in pairs if pair.first in counts and pair.second in counts]
    if not found:
        example = f"such as {pairs[0].first!r}" if pairs else "for it is empty"
        raise ConfigError(
            f"--pairs {name}: none of its {len(pairs):,} pairs has both images among the {len(ids):,} that are judged, "
            f"{example}; it must name them as the data do, such as {ids[0] if ids else ''!r}"
        )
    twice = next((each for pair in found for each in (pair.first, pair.second) if counts[each] > 1), None)
    if twice is not None:
        raise ConfigError(f"--pairs {name}: the data have more than one image {twice!r}; evaluate one packed run alone")
    return found


def verify_pairs(judged: pa.Table, pairs: Sequence[ImagePair], *, name: str) -> tuple[PairFigures, int]:
    """Judges the pairs whose images are among the judged rows; returns the figures and the number of the other pairs.

    Args:
        judged: rows with the columns image_id and embedding, float32 lists of length 1.
        pairs: the pairs.
        name: address of their list, for messages.

    Raises:
        ConfigError: no pair can be judged, or an image of a pair is there twice.
    """
    ids = judged["image_id"].to_pylist()
    found = find_pairs(ids, pairs, name=name)
    place = {image_id: row for row, image_id in enumerate(ids)}
    vectors = np.stack(judged[EMBEDDING].to_pylist()).astype(np.float64)
    first, second = (vectors[[place[getattr(pair, side)] for pair in found]] for side in ("first", "second"))
    folds = [pair.fold for pair in found]
    figures = judge_pairs(
        (first * second).sum(1),
        np.array([pair.same for pair in found]),
        None if None in folds else np.array(folds, np.int64),
    )
    return figures, len(pairs) - len(found)


def write_verification(store: Store, figures: PairFigures, *, num_missing: int, pairs: str) -> None:
    """Writes verification.json."""
    values = asdict(figures)
    values["tar"] = {f"{rate:g}": share for rate, share in figures.tar.items()}
    store.put(VERIFICATION_KEY, encode_versioned({"pairs": pairs, "num_missing": num_missing, **values}, indent=1))


def describe_verification(figures: PairFigures, num_missing: int) -> list[str]:
    """Returns the lines that the user reads at the end."""
    shares = ", ".join(
        f"{share:.3f} at {rate:g}" if share is not None else f"too few pairs for {rate:g}"
        for rate, share in figures.tar.items()
    )
    lines = [
        f"  verification of {figures.num_same:,} pairs of the same and {figures.num_different:,} of different persons: "
        f"accuracy {figures.accuracy:.3f} (standard error {figures.accuracy_error:.3f}, {figures.num_folds} folds), "
        f"EER {figures.eer:.3f}, TAR at FAR {shares}"
    ]
    if num_missing:
        lines.append(f"note: {num_missing:,} pairs name an image that is not among the judged ones; they are left out")
    return lines
