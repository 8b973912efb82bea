"""Mixup (Zhang et al. 2018) for labels of every kind: each image is blended with another image of its batch.

A blended image has the losses of both labels, weighted by the shares of the images. This equals the loss of the blended
label if labels can be blended, and also works for coarse and missing labels, ages and ranges.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from faceattr.training.losses.multi_loss import MultiAttributeLoss
from faceattr.training.targets import Targets


@dataclass(frozen=True)
class Blend:
    """Blends the rows of a batch.

    Attributes:
        share: share of the row itself, in [0, 1].
        partner: int64 [n], a permutation of the rows.
    """

    share: float
    partner: Tensor

    def inputs(self, inputs: Tensor) -> Tensor:
        """Blends inputs, float32 [n, ...]."""
        return self.share * inputs + (1 - self.share) * inputs[self.partner]

    def losses(
        self,
        objective: MultiAttributeLoss,
        outputs: Mapping[str, Tensor],
        targets: Mapping[str, Targets],
        denominators: Tensor,
    ) -> Tensor:
        """Returns the losses [A] of a blended batch. Partners are a permutation, so the denominators do not change."""
        partners = {name: each.take(self.partner) for name, each in targets.items()}
        own, other = (objective(outputs, each, denominators) for each in (targets, partners))
        return self.share * own + (1 - self.share) * other


def draw_blend(num: int, alpha: float, device: torch.device) -> Blend:
    """Draws a share from Beta(alpha, alpha) and partners for `num` rows, from torch's global CPU generator."""
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    return Blend(share, torch.randperm(num).to(device))
