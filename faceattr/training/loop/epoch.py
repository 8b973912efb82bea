"""One pass over the training data, in steps of batches, with equally many steps on every rank; and validation."""

import contextlib
import math
import time
from collections.abc import Callable, Iterable
from itertools import islice

import torch
from torch import Tensor, nn

from faceattr.errors import DivergedError, RunError
from faceattr.training.loop.copy_ahead import copy_ahead
from faceattr.training.loop.forward import Forward
from faceattr.training.loop.ranks import Ranks, Reduce
from faceattr.training.loop.state import EpochRecord
from faceattr.training.loop.step import TrainStep
from faceattr.training.losses.multi_loss import MultiAttributeLoss
from faceattr.training.metrics import Metrics
from faceattr.training.targets import Batch

WAYS_OUT = "lower --optim.lr, set --optim.clip-norm, or use --optim.precision bfloat16 or float32"
"""What helps against divergence; `faceattr.training.lineage.advice` adds the command."""
_CHECK_STEPS = 16
"""Number of steps whose losses stay on the device before they are summed over ranks and checked."""


class LossLog:
    """Losses of an epoch's steps.

    Attributes:
        sums: float64 [2, A], loss times denominator, and denominator, summed over steps and ranks.
    """

    def __init__(self, names: tuple[str, ...], reduce: Reduce, *, epoch: int) -> None:
        self.sums = torch.zeros(2, len(names), dtype=torch.float64)
        self._names = names
        self._reduce = reduce
        self._epoch = epoch
        self._num_checked = 0
        self._shares: list[Tensor] = []
        self._denominators: list[Tensor] = []

    def add(self, shares: Tensor, denominators: Tensor) -> None:
        """Adds this rank's shares [A] and the global denominators [A] of a step.

        Raises:
            DivergedError: see `check`.
        """
        self._shares.append(shares)
        self._denominators.append(denominators)
        if len(self._shares) == _CHECK_STEPS:
            self.check()

    def check(self) -> None:
        """Sums the steps since the last check over ranks; all ranks come to the same result.

        Raises:
            DivergedError: a loss is not finite.
        """
        if not self._shares:
            return
        losses = self._reduce(torch.stack(self._shares).double().cpu())
        for step, attribute in (~losses.isfinite()).nonzero().tolist()[:1]:
            raise DivergedError(
                f"epoch {self._epoch}, step {self._num_checked + step}: the loss of attribute "
                f"{self._names[attribute]!r} is {float(losses[step, attribute])}. Training diverged: {WAYS_OUT}"
            )
        denominators = torch.stack(self._denominators)
        self.sums += torch.stack([(losses * denominators).sum(0), denominators.sum(0)])
        self._num_checked += len(losses)
        self._shares.clear()
        self._denominators.clear()

    def figures(self, loss_weights: Tensor) -> EpochRecord:
        """Returns `train/loss` and `train/<attribute>/loss` over the checked steps; see `train_epoch`."""
        losses = self.sums[0] / self.sums[1]
        weighted = losses * loss_weights.double()
        total = float(weighted[self.sums[1] > 0].sum()) if self.sums[1].any() else math.nan
        named = zip(self._names, losses, strict=True)
        return {"train/loss": total, **{f"train/{name}/loss": float(loss) for name, loss in named}}


def train_epoch(
    step: TrainStep,
    batches: Iterable[Batch],
    objective: MultiAttributeLoss,
    *,
    on_device: Callable[[Batch], Batch],
    accumulation: int,
    ranks: Ranks,
    epoch: int,
) -> EpochRecord:
    """Trains for one epoch.

    The epoch ends on all ranks when the first rank has no batch left: a rank that continued would wait for it forever.
    Batches that the others have already read for that step are dropped.

    Args:
        step: takes the batches of one step.
        batches: batches of this rank, on the CPU.
        objective: losses on the CPU, for the denominators.
        on_device: completes a batch that is on the device.
        accumulation: number of batches in a step; the last step may have fewer.
        ranks: the processes of the training, and which of them this is.
        epoch: which epoch, from 0, for messages.

    Returns:
        `train/loss`, `train/<attribute>/loss` (normalised; NaN without any label), `steps`, `images` (of all ranks),
        `train_s`, `images_per_s` (of all ranks), `data_wait_share` (of this rank's time).

    Raises:
        RunError: there are no batches, or a loss is not finite.
    """
    log = LossLog(objective.names, ranks.reduce, epoch=epoch)
    num_steps, num_images, wait_s, start_s = 0, 0, 0.0, time.perf_counter()
    with contextlib.closing(copy_ahead(batches, ranks.device)) as source:
        while True:
            before_s = time.perf_counter()
            taken = list(islice(source, accumulation))
            wait_s += time.perf_counter() - before_s
            weights = [objective.sum_weights(batch.host.targets) for batch in taken]
            own = torch.stack(weights).sum(0) if taken else log.sums[0] * 0
            rows = sum(len(batch.host) for batch in taken)
            seen = ranks.reduce(torch.cat([own, torch.tensor([float(bool(taken)), float(rows)], dtype=torch.float64)]))
            if seen[-2] < ranks.world_size:
                break
            denominators = seen[:-2]
            in_step = round(float(seen[-1]))
            log.add(step([on_device(each.device) for each in taken], denominators, num_images=in_step), denominators)
            num_steps += 1
            num_images += in_step
    log.check()
    if not num_steps:
        raise RunError(f"epoch {epoch}: a worker got no batch; use fewer workers, smaller batches, or more data")
    train_s = time.perf_counter() - start_s
    return log.figures(objective.loss_weights) | {
        "steps": float(num_steps),
        "images": float(num_images),
        "train_s": train_s,
        "images_per_s": num_images / train_s,
        "data_wait_share": wait_s / train_s,
    }


def validate(
    network: nn.Module,
    batches: Iterable[Batch],
    objective: MultiAttributeLoss,
    metrics: Metrics,
    *,
    forward: Forward,
    ranks: Ranks,
    epoch: int,
) -> dict[str, float]:
    """Computes the figures over the batches of all ranks, which may have different numbers of batches.

    Args:
        network: network without DDP, which would wait for the other ranks.
        batches: batches of this rank, on the CPU.
        objective: losses on the CPU, where the labels are; the outputs, which are small, are copied there.
        metrics: empty metrics, to which the batches are added.
        forward: how inputs go through the network.
        ranks: the processes of the training, and which of them this is.
        epoch: which epoch, from 0, for messages.

    Returns:
        `loss` (the total with fixed loss weights, without attributes that have no label), `<attribute>/loss`
        (normalised by its prior) and the figures of `Metrics`.

    Raises:
        DivergedError: the loss of an attribute that has labels is not finite, on all ranks.
    """
    was_training = network.training
    network.eval()
    names = objective.names
    sums = torch.zeros(2, len(names), dtype=torch.float64)
    with torch.no_grad():
        for batch in copy_ahead(batches, ranks.device):
            given, targets = forward(network, batch.device.inputs), batch.host.targets
            outputs = {name: output.float().cpu() for name, output in given.items()}
            sums[0] += objective(outputs, targets, torch.ones(len(names)))
            sums[1] += objective.sum_weights(targets)
            metrics.add(outputs, targets)
    network.train(was_training)
    sums = ranks.reduce(sums)
    metrics.reduce(ranks.reduce)
    losses = sums[0] / sums[1]
    for index in ((sums[1] > 0) & ~losses.isfinite()).nonzero()[:, 0].tolist():
        raise DivergedError(
            f"epoch {epoch}: the validation loss of attribute {names[index]!r} is {float(losses[index])}. Training "
            f"diverged: {WAYS_OUT}"
        )
    weighted = (losses * objective.loss_weights.double().cpu())[sums[1] > 0]
    figures = {"loss": float(weighted.sum()) if len(weighted) else float("nan")}
    figures |= {f"{name}/loss": float(loss) for name, loss in zip(names, losses, strict=True)}
    return figures | metrics.finish()


def validation_figures(metrics: Metrics) -> list[str]:
    """Returns the names of the figures that `validate` returns."""
    return ["loss", *(f"{name}/loss" for name in metrics.by_attribute), *metrics.finish()]
