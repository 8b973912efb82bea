"""One optimizer step, the same on every rank: forward, backward, clipping, step, moving averages."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from faceattr.config.fit import OptimConfig
from faceattr.models.multitask import MultiAttributeModel
from faceattr.training.loop.forward import Forward
from faceattr.training.loop.mixup import Blend, draw_blend
from faceattr.training.loop.optim import Schedule
from faceattr.training.loop.ranks import Ranks
from faceattr.training.losses.consistency import Consistency
from faceattr.training.losses.multi_loss import MultiAttributeLoss
from faceattr.training.losses.weighting import LossWeighting
from faceattr.training.targets import Batch


@dataclass(frozen=True, kw_only=True)
class TrainedParts:
    """What a step updates; the optimizer, its schedule and the network belong to one stage.

    Attributes:
        model: model whose parameters are trained.
        network: network that is called, possibly DDP around `model` or a part of it.
        objective: losses, on the model's device.
        weighting: combines the losses into their total; may have parameters of its own.
        optimizer: optimizer of the trainable parameters.
        schedule: learning-rate schedule of the optimizer.
        scaler: loss scaling for float16.
        ema: moving average of the model, or None.
        consistency: loss between two views of an image, or None.
    """

    model: MultiAttributeModel
    network: nn.Module
    objective: MultiAttributeLoss
    weighting: LossWeighting
    optimizer: Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler
    ema: ModelEmaV3 | None
    consistency: Consistency | None = None


class TrainStep:
    """Takes optimizer steps.

    Attributes:
        parts: parts that the steps update.
        num_steps: number of steps so far, including earlier stages.
    """

    def __init__(
        self, parts: TrainedParts, config: OptimConfig, *, forward: Forward, ranks: Ranks, num_steps: int
    ) -> None:
        """Combines the parts.

        Args:
            parts: parts that the steps update.
            config: settings.
            forward: how inputs go through the network.
            ranks: the processes of the training, and which of them this is.
            num_steps: number of steps taken before.
        """
        self.parts = parts
        self._config = config
        self._forward = forward
        self._ranks = ranks
        self.num_steps = num_steps

    def __call__(self, batches: Sequence[Batch], denominators: Tensor, *, num_images: int) -> Tensor:
        """Takes one step on the sum of the batches.

        Args:
            batches: batches of this rank, on the device; at least one.
            denominators: float64 [A], `sum_weights` summed over the batches of all ranks.
            num_images: number of images in the batches of all ranks.

        Returns:
            float32 [A] on the device: this rank's share of each loss, before the step.
        """
        parts, ranks, device = self.parts, self._ranks, self._ranks.device
        parts.schedule.before_step()
        parts.optimizer.zero_grad(set_to_none=True)
        present = denominators > 0
        shares = torch.zeros(len(denominators), device=device)
        for index, batch in enumerate(batches):
            blend = draw_blend(batch.inputs, self._config, device)
            with self._gradients_synced(index == len(batches) - 1):
                if parts.consistency is None:
                    share, extra = self._losses(parts.network, batch, blend, denominators), None
                else:
                    share, extra = self._consistent_losses(parts.consistency, batch, denominators, num_images)
                total = parts.weighting(share, present, reduce=ranks.reduce, world_size=ranks.world_size)
                if extra is not None:
                    total = total + extra * ranks.world_size
                parts.scaler.scale(total).backward()
            shares += share.detach()
        self._finish()
        if parts.weighting.needs_update:
            with torch.no_grad():
                # Without DDP, which would wait for a backward pass.
                share = self._losses(_unwrap(parts.network), batch, blend, denominators)
            parts.weighting.update(share, present, reduce=ranks.reduce)
        return shares

    def _finish(self) -> None:
        parts = self.parts
        parts.scaler.unscale_(parts.optimizer)
        if self._config.clip_norm is not None:
            trained = [parameter for parameter in parts.model.parameters() if parameter.grad is not None]
            nn.utils.clip_grad_norm_(trained, self._config.clip_norm)
        parts.scaler.step(parts.optimizer)
        parts.scaler.update()
        self.num_steps += 1
        if parts.ema is not None:
            parts.ema.update(parts.model, step=self.num_steps)

    def _losses(self, network: nn.Module, batch: Batch, blend: Blend | None, denominators: Tensor) -> Tensor:
        inputs = self._forward.prepare(batch.inputs)
        if blend is None:
            return self.parts.objective(self._forward(network, inputs), batch.targets, denominators)
        outputs = self._forward(network, blend.inputs(inputs))
        return blend.losses(self.parts.objective, outputs, batch.targets, denominators)

    def _consistent_losses(
        self, consistency: Consistency, batch: Batch, denominators: Tensor, num_images: int
    ) -> tuple[Tensor, Tensor]:
        """Returns the losses [A] of a batch, and its share of the consistency loss, from one pass over both views."""
        both = torch.cat([batch.inputs, consistency.draw_views(batch.inputs)])
        outputs = self._forward(self.parts.network, self._forward.prepare(both))
        own = {name: each[: len(batch)] for name, each in outputs.items()}
        others = {name: each[len(batch) :] for name, each in outputs.items()}
        objective = self.parts.objective
        loss_weights = dict(zip(objective.names, objective.loss_weights, strict=True))
        extra = consistency.weight / num_images * consistency(own, others, loss_weights)
        return objective(own, batch.targets, denominators), extra

    def _gradients_synced(self, synced: bool) -> contextlib.AbstractContextManager[None]:
        """Makes DDP sum gradients over ranks once per step, in the last batch."""
        network = self.parts.network
        if synced or not isinstance(network, DistributedDataParallel):
            return contextlib.nullcontext()
        return network.no_sync()


def _unwrap(network: nn.Module) -> nn.Module:
    return network.module if isinstance(network, DistributedDataParallel) else network
