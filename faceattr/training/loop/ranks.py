"""What the processes of a training share: sums over ranks, and averaged statistics of their own images."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Reduce = Callable[[Tensor], Tensor]
"""Sums a float64 CPU tensor over ranks and returns the sum; every rank calls it equally often."""


def no_reduce(tensor: Tensor) -> Tensor:
    """Returns the tensor: the `Reduce` of a single process."""
    return tensor


def count_ranks(reduce: Reduce) -> int:
    """Returns the number of ranks."""
    return round(float(reduce(torch.ones(1, dtype=torch.float64))))


def average_buffers(models: Sequence[nn.Module], reduce: Reduce) -> None:
    """Sets the batch-norm statistics on all ranks to their mean over ranks.

    DDP broadcasts rank 0's statistics before each forward, and each rank updates them with its own images.
    """
    buffers = [buffer for model in models for buffer in model.buffers()]
    if not buffers:
        return
    own = torch.cat([buffer.detach().double().cpu().flatten() for buffer in buffers])
    total = reduce(torch.cat([own, torch.ones(1, dtype=torch.float64)]))
    parts = (total[:-1] / total[-1]).split([buffer.numel() for buffer in buffers])
    for buffer, part in zip(buffers, parts, strict=True):
        # The number of batches that a norm has seen is an integer.
        buffer.copy_((part if buffer.is_floating_point() else part.round()).view_as(buffer))
