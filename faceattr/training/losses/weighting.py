"""How the losses of the attributes become one: fixed weights, or learnt ones by torchjd.

    constant      sum w_a L_a
    uncertainty   sum exp(-s_a) w_a L_a / 2 + s_a / 2, s learnt with the model      Kendall et al. 2018
    dwa           weights from the ratio of the last two epochs' losses             Liu et al. 2019
    famo          equal relative progress, by the losses after each step            Liu et al. 2023

An attribute without a label in a step counts there with its last loss and no gradient: 0 would be the best of losses.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torchjd.scalarization import DWA, FAMO, UW

from faceattr.config.fit import LossConfig
from faceattr.training.loop.ranks import Reduce


class LossWeighting(nn.Module):
    """Losses [A] to their total.

    Attributes:
        needs_update: whether `update` wants the losses of the same batch after the optimizer's step.
    """

    loss_weights: Tensor
    last: Tensor
    _active: Tensor

    def __init__(self, config: LossConfig, loss_weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("loss_weights", loss_weights.clone())
        # Normalised losses start near 1.
        self.register_buffer("last", torch.ones_like(loss_weights))
        # Zero losses would break the logarithm of FAMO and the ratio of DWA.
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
        """What the optimizer learns along with the model."""
        return list(self.scalarizer.parameters()) if isinstance(self.scalarizer, UW) else []

    def forward(self, shares: Tensor, present: Tensor, *, reduce: Reduce, world_size: int) -> Tensor:
        """Total to call `backward` on.

        DDP averages gradients over ranks, so a rank's share is multiplied with the number of ranks. Learnt weights have
        to be the same everywhere: they see the losses added over ranks, with the gradient of this rank's share.

        Args:
            shares: float32 [A], this rank's share of each loss.
            present: bool [A], whether any rank has a label; the same on all ranks.
            reduce: sum over ranks.
            world_size: number of ranks.
        """
        if self.scalarizer is None:
            return (self.loss_weights * shares).sum() * world_size
        losses = self._fill(_reduced(shares, reduce), present)
        self.last = losses
        gradient_only = (shares - shares.detach()) * world_size
        return self.scalarizer(((losses + gradient_only) * self.loss_weights)[self._active])

    def update(self, shares: Tensor, present: Tensor, *, reduce: Reduce) -> None:
        """Tells FAMO this rank's shares [A] of the losses of the same batch after the step."""
        if isinstance(self.scalarizer, FAMO):
            losses = self._fill(_reduced(shares, reduce), present)
            self.scalarizer.update((losses * self.loss_weights)[self._active])

    def end_epoch(self) -> None:
        """Tells DWA that an epoch is over."""
        if isinstance(self.scalarizer, DWA):
            self.scalarizer.step()

    def _fill(self, losses: Tensor, present: Tensor) -> Tensor:
        return torch.where(present.to(losses.device), losses, self.last)

    # torchjd keeps what DWA and FAMO remember in private fields and offers no state of them; a test resumes each.
    def training_state(self) -> dict[str, Any]:
        """Tensors and plain values, for `load_training_state`."""
        state: dict[str, Any] = {"module": {name: value.clone() for name, value in self.state_dict().items()}}
        match self.scalarizer:
            case DWA():
                state["averages"] = list(self.scalarizer._previous_averages)
            case FAMO():
                optimizer = self.scalarizer._optimizer
                state["optimizer"] = None if optimizer is None else optimizer.state_dict()
        return state

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Goes on from the end of the epoch in which `training_state` was taken."""
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
