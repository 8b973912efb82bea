"""Losses and metrics of a model on data that it does not learn from."""

from collections.abc import Iterable

import torch
from torch import nn

from faceattr.training.loop.forward import Forward
from faceattr.training.loop.ranks import Reduce
from faceattr.training.losses.multi_loss import MultiAttributeLoss
from faceattr.training.metrics import Metrics
from faceattr.training.targets import Batch


def validate(
    network: nn.Module,
    batches: Iterable[Batch],
    objective: MultiAttributeLoss,
    metrics: Metrics,
    *,
    forward: Forward,
    device: torch.device,
    reduce: Reduce,
) -> dict[str, float]:
    """Figures over the batches of all ranks, whose numbers may differ.

    Args:
        network: not wrapped by DDP, which would wait for the other ranks.
        batches: of this rank, on the CPU.
        objective: on the CPU, where labels are and outputs, which are few, are brought.
        metrics: fresh ones, which are added to.
        forward: how inputs go through the network.
        device: of the network.
        reduce: sum over ranks.

    Returns:
        `loss` (the total with fixed loss weights, without attributes that no row is labelled with), `<attribute>/loss`
        (normalised by its prior) and the figures of `Metrics`.
    """
    was_training = network.training
    network.eval()
    names = objective.names
    sums = torch.zeros(2, len(names), dtype=torch.float64)
    with torch.no_grad():
        for batch in batches:
            given = forward(network, batch.inputs.to(device, non_blocking=True))
            outputs = {name: output.float().cpu() for name, output in given.items()}
            sums[0] += objective(outputs, batch.targets, torch.ones(len(names)))
            sums[1] += objective.sum_weights(batch.targets)
            metrics.add(outputs, batch.targets)
    network.train(was_training)
    sums = reduce(sums)
    metrics.reduce(reduce)
    losses = sums[0] / sums[1]
    weighted = (losses * objective.loss_weights.double().cpu())[sums[1] > 0]
    figures = {"loss": float(weighted.sum()) if len(weighted) else float("nan")}
    figures |= {f"{name}/loss": float(loss) for name, loss in zip(names, losses, strict=True)}
    return figures | metrics.finish()


def validation_figures(metrics: Metrics) -> list[str]:
    """Names of the figures that `validate` returns."""
    return ["loss", *(f"{name}/loss" for name in metrics.by_attribute), *metrics.finish()]
