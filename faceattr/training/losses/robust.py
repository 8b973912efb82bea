"""Losses that mislabelled rows disturb less than cross entropy, for attributes with classes.

With the model's probabilities p, the target's t (one class, or a score) and class weights w:

    generalised   sum_c w_c t_c (1 - p_c ** q) / q                                      Zhang & Sabuncu 2018
                  cross entropy in the limit of q = 0, the absolute error at q = 1
    symmetric     sum_c w_c t_c (-a log p_c  -  b sum_k p_k max(log t_k, -4))           Wang et al. 2019
                  the second term exchanges the roles of p and t; log 0 is taken as -4, as there

Both bound the pull of a row that the model contradicts: a p_c near 0 is more likely a wrong label than a lesson.
"""

from typing import assert_never

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from faceattr.config.fit import LossConfig

_LOG_OF_ZERO = -4.0


def compute_robust_loss(log_p: Tensor, target: Tensor, class_weights: Tensor, config: LossConfig) -> Tensor:
    """Computes the configured robust loss of each row; label smoothing is applied to the target first.

    Args:
        log_p: float32 [n, C], log-probabilities.
        target: int64 [n], class indices, or float32 [n, C], probabilities.
        class_weights: float32 [C].
        config: settings; `robust` is not `off`.

    Returns:
        float32 [n].
    """
    num_classes = log_p.shape[1]
    shares = target if target.is_floating_point() else one_hot(target, num_classes).to(log_p)
    shares = shares * (1 - config.label_smoothing) + config.label_smoothing / num_classes
    weighted = shares * class_weights
    match config.robust:
        case "off":
            raise ValueError("expected a robust loss, found --loss.robust off")
        case "generalised":
            return (weighted * _generalise(log_p, config.robust_q)).sum(1)
        case "symmetric":
            forward, reverse = config.symmetric_weights
            reversed_entropy = -(log_p.exp() * shares.log().clamp(min=_LOG_OF_ZERO)).sum(1)
            return forward * -(weighted * log_p).sum(1) + reverse * weighted.sum(1) * reversed_entropy
    assert_never(config.robust)


def compute_robust_marginal(log_p: Tensor, config: LossConfig) -> Tensor:
    """Computes the loss of rows of which several classes are possible, without class weights.

    It is the loss of a label with two classes, possible and impossible, and 0 where all classes are possible.

    Args:
        log_p: float32 [n], log of the probability of all possible classes together.
        config: settings.

    Returns:
        float32 [n].
    """
    match config.robust:
        case "off":
            return -log_p
        case "generalised":
            return _generalise(log_p, config.robust_q)
        case "symmetric":
            forward, reverse = config.symmetric_weights
            return -forward * log_p + reverse * _LOG_OF_ZERO * torch.expm1(log_p)
    assert_never(config.robust)


def _generalise(log_p: Tensor, q: float) -> Tensor:
    return -torch.expm1(q * log_p) / q
