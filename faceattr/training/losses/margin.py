"""ArcFace (Deng et al. 2019): a loss for persons that wants an angle between each face and the others' class.

    outputs   s cos(t_c)              t_c is the angle between the features and the weights of person c
    loss      cross entropy of these outputs, with s cos(t_y + m) for the face's own person y

The margin m is added in the loss alone, so that the model's outputs stay the ones by which it decides. Beyond
t = pi - m, where cos(t + m) would rise again, the authors' own continuation cos(t) - m sin(m) takes its place.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from faceattr.training.losses.attribute_loss import AttributeLoss
from faceattr.training.targets import Targets

# Keeps the gradient of the sine finite at the ends.
_LARGEST_COSINE = 1 - 1e-6


class MarginLoss(AttributeLoss):
    """A loss over persons whose own output is lowered by the margin first; see the module docstring."""

    def __init__(self, base: AttributeLoss, *, margin: float, scale: float, num_classes: int) -> None:
        """Adds a margin to a loss.

        Args:
            base: loss of the outputs.
            margin: m in radians, above 0, below half of pi.
            scale: s, as in the head.
            num_classes: number of persons.
        """
        super().__init__()
        self.base = base
        self._margin, self._scale, self._num_classes = margin, scale, num_classes

    def weights(self, targets: Targets) -> Tensor:
        """See the base class."""
        return self.base.weights(targets)

    def losses(self, outputs: Tensor, targets: Targets) -> Tensor:
        """See the base class."""
        cosine = (outputs.float() / self._scale).clamp(-_LARGEST_COSINE, _LARGEST_COSINE)
        own = functional.one_hot(targets.value, self._num_classes).bool() & targets.known[:, None]
        return self.base.losses(self._scale * torch.where(own, self._add_margin(cosine), cosine), targets)

    def _add_margin(self, cosine: Tensor) -> Tensor:
        margin = self._margin
        added = cosine * math.cos(margin) - (1 - cosine**2).sqrt() * math.sin(margin)
        return torch.where(cosine > -math.cos(margin), added, cosine - margin * math.sin(margin))

    def constant_outputs(self, counts: Tensor) -> Tensor:
        """Returns zeros: weights at right angles to all features. A head of cosines has no bias for anything else."""
        return torch.zeros(len(counts))

    def examples(self) -> Targets:
        """See the base class."""
        return self.base.examples()
