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

    def __init__(self, checkpoint: BlipCheckpoint, packs: Sequence[PackedText], *, layers_at_once: int) -> None:
        """Builds the network.

        Args:
            checkpoint: tensors, sizes and preprocessing.
            packs: the packed questions.
            layers_at_once: text layers whose keys and values of the image are computed in one matrix product. They are
                in memory together: 1.8 MB per image and layer of blip-vqa-base in half precision.
        """
        super().__init__()
        self.vision = VisionTower(checkpoint.tensors, checkpoint.architecture, checkpoint.preprocessing)
        self.text = TextScorer(checkpoint.tensors, checkpoint.architecture, packs, layers_at_once=layers_at_once)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [n, S, S, 3] -> float32 [n, answers]."""
        return self.text(self.vision(images))
