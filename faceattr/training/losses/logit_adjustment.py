"""Logit adjustment: a loss for the mean recall of all classes instead of the accuracy (Menon et al. 2021, equation 10).

    loss(outputs) = base loss(outputs + factor * log p)

p are the class frequencies, for a binary attribute p(yes) / p(no). The model itself gives the outputs without the
adjustment. With a factor of 1 their softmax is the score if all classes were equally frequent, so that the likeliest
class is the one with the best mean recall. In contrast to class weights this also holds for a model that fits all
training labels.
"""

import torch
from torch import Tensor

from faceattr.training.losses.attribute_loss import AttributeLoss
from faceattr.training.targets import Targets


class AdjustedLoss(AttributeLoss):
    """A loss over classes whose outputs are adjusted by the class frequencies first."""

    adjustment: Tensor

    def __init__(self, base: AttributeLoss, adjustment: Tensor) -> None:
        """Adjusts a loss.

        Args:
            base: loss of the adjusted outputs.
            adjustment: float32 [outputs], from `compute_adjustment`.
        """
        super().__init__()
        self.base = base
        self.is_entropy = base.is_entropy
        self.register_buffer("adjustment", adjustment)

    def weights(self, targets: Targets) -> Tensor:
        """See the base class."""
        return self.base.weights(targets)

    def losses(self, outputs: Tensor, targets: Targets) -> Tensor:
        """See the base class."""
        return self.base.losses(outputs.float() + self.adjustment, targets)

    def constant_outputs(self, counts: Tensor) -> Tensor:
        """See the base class."""
        return self.base.constant_outputs(counts) - self.adjustment

    def examples(self) -> Targets:
        """See the base class."""
        return self.base.examples()


def compute_adjustment(counts: Tensor, factor: float, *, is_yes_no: bool, max_ratio: float) -> Tensor:
    """Computes what is added to the outputs.

    Args:
        counts: [C], number of labels by class.
        factor: factor of the log frequencies.
        is_yes_no: whether the head has one output, the logit of the second of two classes.
        max_ratio: largest allowed ratio of two frequencies; rarer classes count as this rare.

    Returns:
        float32 [outputs]. A class without labels has 0: nothing would teach the model that it is not as frequent as the
        others.
    """
    present = counts > 0
    frequencies = counts.double().clamp(min=float(counts.max()) / max_ratio) / counts.sum()
    adjustment = factor * torch.where(present, frequencies.log(), 0.0)
    return (adjustment[1:] - adjustment[:1] if is_yes_no else adjustment).float()
