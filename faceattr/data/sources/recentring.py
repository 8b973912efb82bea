"""A teacher's scores on the scale on which 0.5 is its threshold.

A question with `threshold: 0.2` says yes from 0.2 on. All that learns from scores (soft losses and their confidence
weights, label smoothing, class weights, hard labels beside soft ones, runs with other thresholds) takes 0.5 for the
point between no and yes, so scores are moved there once, where a run of labels becomes a source:

    logit(moved) = logit(score) - logit(threshold)

which is Bayes' rule for prior odds changed by (1 - threshold) / threshold (Elkan 2001, The Foundations of
Cost-Sensitive Learning, theorem 2). The order of the scores, 0 and 1 stay as they are.
"""

import numpy as np
import pyarrow as pa

from faceattr.attributes import DEFAULT_THRESHOLD

_BELOW = np.nextafter(np.float32(DEFAULT_THRESHOLD), np.float32(0))


def recentre_scores(scores: pa.ChunkedArray, labels: pa.ChunkedArray, threshold: float) -> pa.Array:
    """Scores of which a yes has at least 0.5 and a no less, float32 [n]; null where there was none.

    Args:
        scores: float32 [n] P(yes) in [0, 1], or null.
        labels: int [n], 0 or 1 by the threshold; null where the teacher abstained or nothing is known.
        threshold: in [0, 1]; a score from here on is a yes.
    """
    score = scores.cast(pa.float64()).fill_null(0.0).to_numpy()
    label = labels.cast(pa.int8()).fill_null(-1).to_numpy()
    yes, no = score * (1 - threshold), (1 - score) * threshold
    # Both are 0 for a score of 0 at the threshold 0, and 1 at 1: it is reached.
    moved = np.divide(yes, yes + no, out=np.ones_like(yes), where=yes + no > 0).astype(np.float32)
    # A score close to the threshold stays on its side of it, whatever rounding does.
    moved = np.where(label == 1, np.maximum(moved, np.float32(DEFAULT_THRESHOLD)), moved)
    moved = np.where(label == 0, np.minimum(moved, _BELOW), moved)
    return pa.array(moved, pa.float32(), mask=scores.is_null().to_numpy(zero_copy_only=False))
