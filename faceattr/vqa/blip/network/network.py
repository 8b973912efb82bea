"""The whole packed network: uint8 images in, log-likelihoods of all answers out."""

from collections.abc import Sequence

from torch import Tensor, nn

from faceattr.vqa.blip.checkpoint import BlipCheckpoint
from faceattr.vqa.blip.network.sequence import PackedText
from faceattr.vqa.blip.network.text import TextScorer
from faceattr.vqa.blip.network.vision import VisionTower


class BlipNetwork(nn.Module):
    """Both towers, built on the CPU in float32; `to` moves them and rounds them.

    Attributes:
        vision: the vision tower.
        text: question encoder and answer decoder.
    """

    def __init__(self, checkpoint: BlipCheckpoint, packs: Sequence[PackedText]) -> None:
        super().__init__()
        self.vision = VisionTower(checkpoint.tensors, checkpoint.architecture, checkpoint.preprocessing)
        self.text = TextScorer(checkpoint.tensors, checkpoint.architecture, packs)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [n, S, S, 3] -> float32 [n, answers]."""
        return self.text(self.vision(images))
