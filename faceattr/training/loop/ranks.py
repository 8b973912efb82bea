"""What the processes of a training agree on: sums over them, and statistics that each has of its own images."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Reduce = Callable[[Tensor], Tensor]
"""Adds a float64 tensor on the CPU over ranks and returns the sum; every rank calls it equally often."""


def no_reduce(tensor: Tensor) -> Tensor:
    """The `Reduce` of a single process."""
    return tensor


def count_ranks(reduce: Reduce) -> int:
    """Number of ranks."""
    return round(float(reduce(torch.ones(1, dtype=torch.float64))))


def average_buffers(models: Sequence[nn.Module], reduce: Reduce) -> None:
    """Gives the models of all ranks the mean of their batch-norm statistics.

    DDP hands out those of rank 0 before each forward, and each rank moves them on with its own images.
    """
    buffers = [buffer for model in models for buffer in model.buffers()]
    if not buffers:
        return
    own = torch.cat([buffer.detach().double().cpu().flatten() for buffer in buffers])
    total = reduce(torch.cat([own, torch.ones(1, dtype=torch.float64)]))
    parts = (total[:-1] / total[-1]).split([buffer.numel() for buffer in buffers])
    for buffer, part in zip(buffers, parts, strict=True):
        # The number of batches that a norm has seen is whole.
        buffer.copy_((part if buffer.is_floating_point() else part.round()).view_as(buffer))
