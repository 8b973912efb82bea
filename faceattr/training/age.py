"""Ages as numbers and as distributions over the years 0 to 116.

    exact age y     soft label g_y(a) ~ exp(-(a - y)^2 / 2 s^2), loss KL(g_y || p)      DLDL, Gao et al. 2017
    range [l, h)    loss -log sum_{l <= a < h} p(a), the likelihood of the range
    prediction      sum_a a p(a)                                                        DEX, Rothe et al. 2015

Years are completed years: the age 25 is [25, 26) in the tables, and 25 here.
"""

import torch
from torch import Tensor

from faceattr.models.heads import NUM_YEARS


def predict_age(outputs: Tensor) -> Tensor:
    """Years float32 [n] from the outputs of an age head: [n, 1] as they are, [n, 117] logits by their expectation."""
    if outputs.shape[1] == 1:
        return outputs[:, 0].float()
    return outputs.float().softmax(1) @ _years(outputs)


def spread_ages(years: Tensor, sigma: float) -> Tensor:
    """Soft labels float32 [n, 117] of ages [n]; each sums to 1, so that those near 0 and 116 are one-sided."""
    return (-((_years(years) - years.float()[:, None]) ** 2) / (2 * sigma**2)).softmax(1)


def years_within(ranges: Tensor) -> Tensor:
    """Bool [n, 117]: which years lie in the ranges [n, 2] (low included, high excluded)."""
    years = _years(ranges)
    return (years >= ranges[:, :1]) & (years < ranges[:, 1:])


def _years(like: Tensor) -> Tensor:
    return torch.arange(NUM_YEARS, dtype=torch.float32, device=like.device)
