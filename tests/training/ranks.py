"""What each of two processes runs in `test_distributed`: gloo, DDP, and its own part of the data."""

from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from faceattr.config.fit import FitConfig, LossConfig, OptimConfig
from faceattr.training.loop.fit import EpochBatches, fit
from faceattr.training.loop.ranks import join_ranks
from faceattr.training.losses.multi_loss import build_objective
from tests.training.toy import build_toy, count, make_batch, split

WORLD = 2
BATCHES = [make_batch(24, seed, missing=0.4) for seed in range(4)]
COUNTS = count(BATCHES)
VAL = [make_batch(30, 50)]
WEIGHTINGS = ("constant", "uncertainty", "dwa", "famo")
# Ranks get unlike numbers of rows, so unlike numbers of labels.
SIZES = (17, 7)


def bare(batch):
    """A batch in which nobody has a hat label."""
    targets = dict(batch.targets)
    targets["hat"] = targets["hat"].map(torch.zeros_like)
    return type(batch)(inputs=batch.inputs, targets=targets)


def part(batch, rank):
    """Rank 0 has no hat labels in its part; in the whole, rank 0's rows have none either."""
    mine = split(batch, *SIZES)[rank]
    return bare(mine) if rank == 0 else mine


def config(weighting):
    return FitConfig(
        loss=LossConfig(weighting=weighting, main="hat"),
        optim=OptimConfig(epochs=2, lr=0.05, name="sgd", momentum=0.0, schedule="constant", weight_decay=0.0),
    )


def gradients(model, network, batches, reduction, world_size):
    objective = build_objective(model.attributes, model.head_configs, LossConfig(main="hat"), COUNTS)
    denominators = reduction(torch.stack([objective.sum_weights(batch.targets) for batch in batches]).sum(0))
    for batch in batches:
        losses = objective(network(batch.inputs / 255), batch.targets, denominators)
        ((losses * objective.loss_weights).sum() * world_size).backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORLD)
    model = build_toy(norm=False)
    ranks = join_ranks(torch.device("cpu"), rank=rank, world_size=WORLD)
    found = {
        "gradients": gradients(model, DistributedDataParallel(model), [part(BATCHES[0], rank)], ranks.reduce, WORLD)
    }
    for weighting in WEIGHTINGS:
        model = build_toy(norm=False)
        result = fit(
            model,
            EpochBatches(
                train=lambda epoch: (part(batch, rank) for batch in BATCHES),
                # One rank validates nothing at all.
                val=lambda: VAL if rank == 1 else [],
                num_train=len(BATCHES),
            ),
            config(weighting),
            counts=COUNTS,
            ranks=ranks,
        )
        found[weighting] = (result.history, {name: tensor.clone() for name, tensor in model.state_dict().items()})
    # Batch norm, accumulation, and one rank with more batches than the other.
    model = build_toy()
    result = fit(
        model,
        EpochBatches(
            train=lambda epoch: (part(batch, rank) for batch in BATCHES[: 4 if rank == 0 else 3]),
            val=lambda: VAL,
            num_train=4,
        ),
        FitConfig(optim=OptimConfig(epochs=2, accumulation=2, ema_decay=0.5)),
        counts=COUNTS,
        ranks=ranks,
    )
    found["uneven"] = (result.history, {name: tensor.clone() for name, tensor in model.state_dict().items()})
    torch.save(found, Path(folder) / f"rank{rank}.pt")
    dist.destroy_process_group()
