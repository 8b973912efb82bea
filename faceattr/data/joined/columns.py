"""Labels and scores of a label table as arrays."""

import numpy as np
import pyarrow as pa

from faceattr.attributes import Attribute


def labels_or_unknown(column: pa.ChunkedArray) -> np.ndarray:
    """Returns labels as int64 [n], with -1 for a missing label."""
    return np.asarray(column.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64))


def class_scores(column: pa.ChunkedArray, attribute: Attribute) -> np.ndarray:
    """Returns the score of every class, float64 [n, classes], NaN in rows without one; no and yes of a binary one."""
    if attribute.is_yes_no:
        yes = column.cast(pa.float64()).to_numpy()
        return np.stack([1 - yes, yes], 1)
    scores = np.full((len(column), len(attribute.classes)), np.nan)
    flat = column.combine_chunks().drop_null().flatten().to_numpy(zero_copy_only=False)
    scores[np.asarray(column.is_valid())] = flat.reshape(-1, len(attribute.classes))
    return scores
