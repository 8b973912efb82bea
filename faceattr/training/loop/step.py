"""One step of the optimizer: forward, backward, clip, step, averages; the same on every rank."""

import contextlib
from collections.abc import Sequence

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
from faceattr.training.loop.ranks import Reduce
from faceattr.training.losses.multi_loss import MultiAttributeLoss
from faceattr.training.losses.weighting import LossWeighting
from faceattr.training.targets import Batch


class TrainStep:
    """Takes the batches of one step."""

    def __init__(
        self,
        *,
        model: MultiAttributeModel,
        network: nn.Module,
        objective: MultiAttributeLoss,
        weighting: LossWeighting,
        optimizer: Optimizer,
        schedule: Schedule,
        scaler: torch.amp.GradScaler,
        ema: ModelEmaV3 | None,
        config: OptimConfig,
        forward: Forward,
        device: torch.device,
        reduce: Reduce,
        world_size: int,
        num_steps: int,
    ) -> None:
        """Puts the parts together.

        `network` is what is called, possibly DDP around `model` or a part of it; `num_steps` have been taken before.
        """
        self._model = model
        self._network = network
        self._objective = objective
        self._weighting = weighting
        self._optimizer = optimizer
        self._schedule = schedule
        self._scaler = scaler
        self._ema = ema
        self._config = config
        self._forward = forward
        self._device = device
        self._reduce = reduce
        self._world_size = world_size
        self.num_steps = num_steps

    def __call__(self, batches: Sequence[Batch], denominators: Tensor) -> Tensor:
        """One step on the sum of the batches.

        Args:
            batches: of this rank, on the CPU; at least one.
            denominators: float64 [A], `sum_weights` of the batches of all ranks.

        Returns:
            float32 [A] on the device: this rank's share of each loss, before the step.
        """
        self._schedule.before_step()
        self._optimizer.zero_grad(set_to_none=True)
        present = denominators > 0
        shares = torch.zeros(len(denominators), device=self._device)
        for index, each in enumerate(batches):
            batch = each.to(self._device)
            alpha = self._config.mixup_alpha
            blend = draw_blend(len(batch), alpha, self._device) if alpha else None
            with self._gradients_synced(index == len(batches) - 1):
                share = self._losses(self._network, batch, blend, denominators)
                total = self._weighting(share, present, reduce=self._reduce, world_size=self._world_size)
                self._scaler.scale(total).backward()
            shares += share.detach()
        self._finish()
        if self._weighting.needs_update:
            with torch.no_grad():
                # Not through DDP, which would wait for a backward.
                share = self._losses(_unwrap(self._network), batch, blend, denominators)
            self._weighting.update(share, present, reduce=self._reduce)
        return shares

    def _finish(self) -> None:
        self._scaler.unscale_(self._optimizer)
        if self._config.clip_norm is not None:
            trained = [parameter for parameter in self._model.parameters() if parameter.grad is not None]
            nn.utils.clip_grad_norm_(trained, self._config.clip_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self.num_steps += 1
        if self._ema is not None:
            self._ema.update(self._model, step=self.num_steps)

    def _losses(self, network: nn.Module, batch: Batch, blend: Blend | None, denominators: Tensor) -> Tensor:
        inputs = self._forward.prepare(batch.inputs)
        if blend is None:
            return self._objective(self._forward(network, inputs), batch.targets, denominators)
        outputs = self._forward(network, blend.inputs(inputs))
        return blend.losses(self._objective, outputs, batch.targets, denominators)

    def _gradients_synced(self, synced: bool) -> contextlib.AbstractContextManager[None]:
        """DDP adds gradients over ranks once a step, in its last batch."""
        if synced or not isinstance(self._network, DistributedDataParallel):
            return contextlib.nullcontext()
        return self._network.no_sync()


def _unwrap(network: nn.Module) -> nn.Module:
    return network.module if isinstance(network, DistributedDataParallel) else network
