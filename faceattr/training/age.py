"""Ages as numbers and as distributions over the years 0 to 116.

    exact age y     soft label g_y(a) ~ exp(-(a - y)^2 / 2 s^2), loss KL(g_y || p)      DLDL, Gao et al. 2017
    range [l, h)    loss -log sum_{l <= a < h} p(a), the likelihood of the range
    prediction      sum_a a p(a)                                                        DEX, Rothe et al. 2015

Ages are in completed years: the age 25 is [25, 26) in the tables, and 25 here.
"""

import torch
from torch import Tensor

from faceattr.models.heads import NUM_YEARS


def predict_age(outputs: Tensor) -> Tensor:
    """Returns years, float32 [n], from an age head's outputs: [n, 1] unchanged, [n, 117] logits by expectation."""
    if outputs.shape[1] == 1:
        return outputs[:, 0].float()
    return outputs.float().softmax(1) @ _years(outputs)


def spread_ages(years: Tensor, sigma: float) -> Tensor:
    """Returns soft labels float32 [n, 117] for ages [n]; each row sums to 1, so rows near 0 and 116 are one-sided."""
    return (-((_years(years) - years.float()[:, None]) ** 2) / (2 * sigma**2)).softmax(1)


def years_within(ranges: Tensor) -> Tensor:
    """Returns which years are in the half-open ranges [n, 2], low <= year < high: bool [n, 117]."""
    years = _years(ranges)
    return (years >= ranges[:, :1]) & (years < ranges[:, 1:])


def _years(like: Tensor) -> Tensor:
    return torch.arange(NUM_YEARS, dtype=torch.float32, device=like.device)
