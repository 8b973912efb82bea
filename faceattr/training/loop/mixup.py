"""Mixup (Zhang et al. 2018) for labels of every kind: each image blended with another one of its batch.

A blended image is judged by both labels, in the shares of its parts. That is the loss of the blended label wherever
labels can be blended, and serves coarse and missing ones, ages and ranges as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from faceattr.training.losses.multi_loss import MultiAttributeLoss
from faceattr.training.targets import Targets


@dataclass(frozen=True)
class Blend:
    """Which rows of a batch are blended, and how.

    Attributes:
        share: of the row itself, in [0, 1].
        partner: int64 [n], a permutation of the rows.
    """

    share: float
    partner: Tensor

    def inputs(self, inputs: Tensor) -> Tensor:
        """Blends float32 [n, ...]."""
        return self.share * inputs + (1 - self.share) * inputs[self.partner]

    def losses(
        self,
        objective: MultiAttributeLoss,
        outputs: Mapping[str, Tensor],
        targets: Mapping[str, Targets],
        denominators: Tensor,
    ) -> Tensor:
        """Losses [A] of a blended batch. Partners are a permutation, so the denominators stay what they are."""
        partners = {name: each.take(self.partner) for name, each in targets.items()}
        own, other = (objective(outputs, each, denominators) for each in (targets, partners))
        return self.share * own + (1 - self.share) * other


def draw_blend(num: int, alpha: float, device: torch.device) -> Blend:
    """A share from Beta(alpha, alpha) and partners for `num` rows, from torch's global CPU generator."""
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    return Blend(share, torch.randperm(num).to(device))
