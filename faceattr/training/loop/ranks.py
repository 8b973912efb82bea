"""The processes of a training: which one this is, sums over ranks, and averaged statistics of their own images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

Reduce = Callable[[Tensor], Tensor]
"""Sums a float64 CPU tensor over ranks and returns the sum; every rank calls it equally often."""


def no_reduce(tensor: Tensor) -> Tensor:
    """Returns the tensor: the `Reduce` of a single process."""
    return tensor


def _call_as_it_is(network: nn.Module) -> nn.Module:
    return network


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The processes that train a model together, and which of them this is; by default it trains alone.

    Attributes:
        device: where the model of this process runs.
        rank: rank of this process; seeds its dropout and mixup.
        world_size: number of processes.
        reduce: sums a tensor over them.
        distribute: network -> network that is called in training, such as DDP around it. It is called once per stage,
            because freezing changes which parameters have gradients.
    """

    device: torch.device
    rank: int = 0
    world_size: int = 1
    reduce: Reduce = no_reduce
    distribute: Callable[[nn.Module], nn.Module] = _call_as_it_is


def join_ranks(device: torch.device, *, rank: int, world_size: int) -> Ranks:
    """Returns the ranks of torch's process group, which must exist if `world_size` is above 1; all ranks call it."""
    if world_size == 1:
        return Ranks(device=device)
    # nccl sums tensors on GPUs only, so counts have a group of their own.
    group = dist.new_group(backend="gloo") if device.type == "cuda" else None
    wrap = partial(
        DistributedDataParallel, device_ids=[device] if device.type == "cuda" else None, gradient_as_bucket_view=True
    )
    return Ranks(device=device, rank=rank, world_size=world_size, reduce=partial(_add, group=group), distribute=wrap)


def _add(tensor: Tensor, *, group: dist.ProcessGroup | None) -> Tensor:
    total = tensor.clone()
    dist.all_reduce(total, group=group)
    return total


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
