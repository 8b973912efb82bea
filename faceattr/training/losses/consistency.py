"""Consistency: another view of an image shall get the scores that the image got, which needs no label.

    C = mean over rows of sum_a w_a sum_c (p_ac(other view) - p_ac(image)) ** 2

p are probabilities, of no and yes for a binary attribute, and w_a the loss weights. The scores of the image are the
target and get no gradient: the Pi model of Laine & Aila 2017, with one of its two passes as a target as in Tarvainen &
Valpola 2017. Rows without a label take part like all others. Ages predicted as one number are left out.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from faceattr.attributes import AttributeSet
from faceattr.config.fit import LossConfig
from faceattr.models.heads import HeadConfig
from faceattr.models.multitask import MultiAttributeModel


class Consistency(nn.Module):
    """Makes the other views, and compares the outputs of both.

    Attributes:
        weight: factor of the result in the total loss.
    """

    def __init__(
        self, attributes: AttributeSet, heads: Mapping[str, HeadConfig], *, weight: float, size_px: int
    ) -> None:
        """Lists what is compared.

        Args:
            attributes: attributes of the model.
            heads: attribute name -> shape of its head.
            weight: factor of the result in the total loss.
            size_px: side of the images.
        """
        super().__init__()
        self.weight = weight
        self._is_yes_no = {
            each.name: each.is_yes_no
            for each in attributes.attributes
            if each.has_classes or heads[each.name].age_output == "distribution"
        }
        # One draw changes all images of a batch alike. Crops and spots are small: they must not hide what is asked for.
        self._view = v2.Compose(
            [
                v2.RandomResizedCrop(size_px, scale=(0.8, 1.0), ratio=(0.9, 1.1), antialias=True),
                v2.RandomHorizontalFlip(),
                v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3),
                v2.RandomErasing(p=0.5, scale=(0.02, 0.08)),
            ]
        )

    def draw_views(self, images: Tensor) -> Tensor:
        """Returns another view of each image, uint8 [n, 3, S, S], drawn from torch's global generators."""
        views: Tensor = self._view(images)
        return views

    def forward(
        self, outputs: Mapping[str, Tensor], others: Mapping[str, Tensor], loss_weights: Mapping[str, Tensor]
    ) -> Tensor:
        """Returns the sum over rows, float32 [], before `weight`.

        Args:
            outputs: attribute name -> [n, outputs] for the images; they are the target.
            others: the same for their other views.
            loss_weights: attribute name -> factor in the total loss, float32 [].
        """
        total = torch.zeros((), device=next(iter(outputs.values())).device)
        for name, is_yes_no in self._is_yes_no.items():
            target = _to_probabilities(outputs[name].detach().float(), is_yes_no)
            distance = (_to_probabilities(others[name].float(), is_yes_no) - target) ** 2
            total = total + loss_weights[name] * distance.sum()
        return total


def _to_probabilities(outputs: Tensor, is_yes_no: bool) -> Tensor:
    """Returns float32 [n, C]."""
    if is_yes_no:
        yes = outputs[:, 0].sigmoid()
        return torch.stack([1 - yes, yes], 1)
    return outputs.softmax(1)


def build_consistency(model: MultiAttributeModel, loss: LossConfig) -> Consistency | None:
    """Returns what the settings ask for; None without `consistency`."""
    if not loss.consistency:
        return None
    size_px = model.backbone.preprocessing.size_px
    return Consistency(model.attributes, model.head_configs, weight=loss.consistency, size_px=size_px)
