"""Ranking metrics of scores from histograms, which can be summed over batches and ranks.

A bin is one of the 65,536 values of float16, in order, to which a logit is rounded. So the figures are exact for the
rounded logits (11 significant bits), whatever the number of rows, and histograms are merged by adding them.
"""

import torch
from torch import Tensor

NUM_SCORE_BINS = 2**16
_LARGEST = 65504.0


def add_logits(histogram: Tensor, logits: Tensor, labels: Tensor) -> None:
    """Counts finite logits, float32 [n], by labels [n] 0 or 1 into a histogram, float64 [2, NUM_BINS] of no and yes."""
    # Adding 0 turns -0 into 0; they are equal but would be two bins.
    rounded = logits.float().clamp(-_LARGEST, _LARGEST).half() + 0.0
    bits = rounded.view(torch.int16).long() & 0xFFFF
    # Converts sign and magnitude to an order: negative numbers count down from the middle.
    bins = torch.where(bits >= NUM_SCORE_BINS // 2, NUM_SCORE_BINS - 1 - bits, bits + NUM_SCORE_BINS // 2)
    # In place: allocating a histogram per batch would cost more than a small network.
    histogram.view(-1).index_add_(0, labels.long() * NUM_SCORE_BINS + bins, histogram.new_ones(len(bins)))


def compute_auc(histogram: Tensor) -> float:
    """Returns the area under the ROC curve: how often a yes ranks above a no, ties count half; NaN if one is absent."""
    no, yes = histogram
    pairs = float(no.sum() * yes.sum())
    return float((yes * (no.cumsum(0) - no / 2)).sum()) / pairs if pairs else float("nan")


def compute_average_precision(histogram: Tensor) -> float:
    """Returns the average precision, as sklearn's `average_precision_score` defines it; NaN without a yes."""
    no, yes = histogram.flip(1)
    positives = float(yes.sum())
    if not positives:
        return float("nan")
    found = yes.cumsum(0)
    precision = found / (found + no.cumsum(0)).clamp(min=1)
    return float((yes * precision).sum()) / positives
