"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) for labels of every kind: images are mixed in pairs.

Mixup blends all pixels of two images of a batch, CutMix replaces a box of one by the same box of the other. A mixed
image has the losses of both labels, weighted by the shares of the images. This equals the loss of the blended label if
labels can be blended, and also works for coarse and missing labels, ages and ranges.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import CutMix

from faceattr.config.fit import OptimConfig
from faceattr.training.losses.multi_loss import MultiAttributeLoss
from faceattr.training.targets import Targets


@dataclass(frozen=True)
class Blend:
    """Mixes the rows of a batch.

    Attributes:
        share: share of the row itself, in [0, 1].
        partner: int64 [n], a permutation of the rows.
        box: what CutMix takes of the partner: left, top, right and bottom in px, the last two excluded; None for mixup.
    """

    share: float
    partner: Tensor
    box: tuple[int, int, int, int] | None = None

    def inputs(self, inputs: Tensor) -> Tensor:
        """Mixes inputs, float32 [n, ...], for CutMix [n, C, H, W]."""
        if self.box is None:
            return self.share * inputs + (1 - self.share) * inputs[self.partner]
        left, top, right, bottom = self.box
        mixed = inputs.clone()
        mixed[..., top:bottom, left:right] = inputs[self.partner, :, top:bottom, left:right]
        return mixed

    def losses(
        self,
        objective: MultiAttributeLoss,
        outputs: Mapping[str, Tensor],
        targets: Mapping[str, Targets],
        denominators: Tensor,
    ) -> Tensor:
        """Returns the losses [A] of a mixed batch. Partners are a permutation, so the denominators do not change."""
        partners = {name: each.take(self.partner) for name, each in targets.items()}
        own, other = (objective(outputs, each, denominators) for each in (targets, partners))
        return self.share * own + (1 - self.share) * other


def draw_blend(inputs: Tensor, config: OptimConfig, device: torch.device) -> Blend | None:
    """Draws how a batch is mixed, from torch's global CPU generator; None if the config mixes no images.

    Args:
        inputs: the batch, [n, C, H, W].
        config: settings; with both kinds, a coin decides.
        device: where the partners are needed.
    """
    if not config.mixes_images:
        return None
    cuts = bool(config.cutmix_alpha) and (not config.mixup_alpha or bool(torch.rand(()) < 0.5))
    if cuts:
        params = CutMix(alpha=config.cutmix_alpha, num_classes=1).make_params([inputs])
        return Blend(params["lam_adjusted"], torch.randperm(len(inputs)).to(device), params["box"])
    share = float(torch.distributions.Beta(config.mixup_alpha, config.mixup_alpha).sample())
    return Blend(share, torch.randperm(len(inputs)).to(device))
