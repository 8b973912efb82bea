"""Combines the losses of the attributes into one: with fixed weights, or with weights learnt by torchjd.

    constant      sum w_a L_a
    uncertainty   sum exp(-s_a) w_a L_a / 2 + s_a / 2, s learnt with the model      Kendall et al. 2018
    dwa           weights from the ratio of the last two epochs' losses             Liu et al. 2019
    famo          equal relative progress, from the losses after each step          Liu et al. 2023

An attribute without a label in a step keeps its last loss there, without a gradient, because 0 would look like a
perfect loss.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torchjd.scalarization import DWA, FAMO, UW

from faceattr.config.fit import LossConfig
from faceattr.training.loop.ranks import Reduce


class LossWeighting(nn.Module):
    """Combines losses [A] into a total.

    Attributes:
        needs_update: whether `update` needs the losses of the same batch after the optimizer's step.
    """

    loss_weights: Tensor
    last: Tensor
    _active: Tensor

    def __init__(self, config: LossConfig, loss_weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("loss_weights", loss_weights.clone())
        # Initial value: normalised losses start near 1.
        self.register_buffer("last", torch.ones_like(loss_weights))
        # Zero losses would break FAMO's logarithm and DWA's ratio.
        self.register_buffer("_active", loss_weights.nonzero()[:, 0], persistent=False)
        num = len(self._active)
        match config.weighting:
            case "constant":
                self.scalarizer: nn.Module | None = None
            case "uncertainty":
                self.scalarizer = UW(num)
            case "dwa":
                self.scalarizer = DWA(config.dwa_temperature)
            case "famo":
                self.scalarizer = FAMO(num, lr=config.weighting_lr)
        self.needs_update = config.weighting == "famo"

    def trained_parameters(self) -> list[nn.Parameter]:
        """Returns the parameters that the optimizer trains along with the model."""
        return list(self.scalarizer.parameters()) if isinstance(self.scalarizer, UW) else []

    def forward(self, shares: Tensor, present: Tensor, *, reduce: Reduce, world_size: int) -> Tensor:
        """Returns the total on which to call `backward`.

        DDP averages gradients over ranks, so a rank's share is multiplied by the number of ranks. Learnt weights must
        be equal on all ranks: they use the losses summed over ranks, with the gradient of this rank's share.

        Args:
            shares: float32 [A], this rank's share of each loss.
            present: bool [A], whether any rank has a label; equal on all ranks.
            reduce: sums a tensor over ranks.
            world_size: number of ranks.
        """
        if self.scalarizer is None:
            return (self.loss_weights * shares).sum() * world_size
        losses = self._fill(_reduced(shares, reduce), present)
        self.last = losses
        gradient_only = (shares - shares.detach()) * world_size
        return self.scalarizer(((losses + gradient_only) * self.loss_weights)[self._active])

    def update(self, shares: Tensor, present: Tensor, *, reduce: Reduce) -> None:
        """Passes FAMO this rank's shares [A] of the same batch's losses after the step."""
        if isinstance(self.scalarizer, FAMO):
            losses = self._fill(_reduced(shares, reduce), present)
            self.scalarizer.update((losses * self.loss_weights)[self._active])

    def end_epoch(self) -> None:
        """Tells DWA that an epoch has ended."""
        if isinstance(self.scalarizer, DWA):
            self.scalarizer.step()

    def _fill(self, losses: Tensor, present: Tensor) -> Tensor:
        return torch.where(present.to(losses.device), losses, self.last)

    # torchjd keeps the state of DWA and FAMO in private fields and offers no access to it; a test resumes both.
    def training_state(self) -> dict[str, Any]:
        """Returns tensors and plain values for `load_training_state`."""
        state: dict[str, Any] = {"module": {name: value.clone() for name, value in self.state_dict().items()}}
        match self.scalarizer:
            case DWA():
                state["averages"] = list(self.scalarizer._previous_averages)
            case FAMO():
                optimizer = self.scalarizer._optimizer
                state["optimizer"] = None if optimizer is None else optimizer.state_dict()
        return state

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Restores a state from `training_state`, taken at the end of an epoch."""
        self.load_state_dict(state["module"])
        match self.scalarizer:
            case DWA():
                self.scalarizer._previous_averages = [each.to(self.last.device) for each in state["averages"]]
            case FAMO() if state["optimizer"] is not None:
                scalarizer = self.scalarizer
                scalarizer._optimizer = Adam([scalarizer._w], lr=scalarizer.lr, weight_decay=scalarizer.weight_decay)
                scalarizer._optimizer.load_state_dict(state["optimizer"])


def _reduced(shares: Tensor, reduce: Reduce) -> Tensor:
    return reduce(shares.detach().double().cpu()).to(shares)
