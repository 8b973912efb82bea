"""The loss of classes in an order: the cross entropies of all questions "is the class above k?", summed.

    loss(c) = -sum_{k < c} log P(class > k) - sum_{k >= c} log P(class <= k)

This is the loss of CORAL (Cao, Mirjalili and Raschka 2020). There P(class > k) are outputs of their own; here they are
sums of the softmax over classes, as Frank and Hall (2001) derive class probabilities from them, so that they never
contradict each other and the model still gives one score per class. With two classes it is the cross entropy. With more
it is larger, and is scaled so that it does not take weight from the other attributes.
"""

import torch
from torch import Tensor
from torch.nn import functional


def ordinal_cross_entropy(logits: Tensor, target: Tensor, *, weight: Tensor, label_smoothing: float) -> Tensor:
    """Computes the loss of each row, as `torch.nn.functional.cross_entropy` with reduction `none`.

    Args:
        logits: float32 [n, C], one for each class, in order.
        target: int64 [n], classes; or float32 [n, C], probabilities of classes.
        weight: float32 [C], weight of each class.
        label_smoothing: share of the target that is spread over all classes.

    Returns:
        float32 [n], in nats.
    """
    log_p = logits.log_softmax(1)
    below = log_p.logcumsumexp(1)[:, :-1]
    above = log_p.flip(1).logcumsumexp(1).flip(1)[:, 1:]
    below_from = below.flip(1).cumsum(1).flip(1)
    losses = -functional.pad(above.cumsum(1), (1, 0)) - functional.pad(below_from, (0, 1))
    num_classes = logits.shape[1]
    shares = target if target.ndim == 2 else functional.one_hot(target, num_classes).to(losses)
    smoothed = shares * (1 - label_smoothing) + label_smoothing / num_classes
    return torch.sum(losses * smoothed * weight, 1)


def compute_ordinal_scale(counts: Tensor) -> float:
    """Returns the cross entropy over the ordinal loss, both of a model that knows only the class frequencies.

    Args:
        counts: [C], number of labels by class.
    """
    shares = counts.double() / counts.sum()
    below = shares.cumsum(0)[:-1].clamp(0, 1)
    questions = -(torch.special.xlogy(below, below) + torch.special.xlogy(1 - below, 1 - below)).sum()
    # Labels of one class alone leave nothing to ask.
    return float(torch.special.entr(shares).sum() / questions) if questions > 0 else 1.0
