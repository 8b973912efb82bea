"""BLIP's vision tower on uint8 pixels, with the normalisation folded into the patch projection."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from faceattr.vqa.blip.network.architecture import BlipArchitecture, TowerSizes
from faceattr.vqa.blip.network.layers import Dense, FeedForward, Norm, Tensors, attend, split_heads
from faceattr.vqa.blip.preprocess import BlipPreprocessing
from faceattr.vqa.folding import PIXEL_CENTRE, PIXEL_SCALE, fold_convolution


def fold_normalisation(
    weight: Tensor, bias: Tensor, *, mean: Sequence[float], std: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Returns the patch projection for raw pixels as a matrix; arguments as in `fold_convolution`.

    Returns:
        float32 [D, P * P * 3], inputs ordered row, column, channel as in an RGB array, and float32 [D].
    """
    folded, folded_bias = fold_convolution(weight, bias, mean=mean, std=std)
    return folded.permute(0, 2, 3, 1).flatten(1), folded_bias


class VisionTower(nn.Module):
    """Computes image tokens of uint8 images, as `BlipVisionModel` does from the processor's output.

    Attributes:
        patch_px: side of a patch.
        grid: patches along one side of the image.
        layers: the transformer's layers.
    """

    patch_positions: Tensor
    class_token: Tensor

    def __init__(self, tensors: Tensors, architecture: BlipArchitecture, preprocessing: BlipPreprocessing) -> None:
        super().__init__()
        self.patch_px = architecture.patch_px
        self.grid = architecture.image_px // self.patch_px
        name = "vision_model.embeddings"
        weight, bias = fold_normalisation(
            tensors[f"{name}.patch_embedding.weight"],
            tensors[f"{name}.patch_embedding.bias"],
            mean=preprocessing.mean,
            std=preprocessing.std,
        )
        positions = tensors[f"{name}.position_embedding"].float()
        self.patches = Dense(weight, bias)
        self.register_buffer("patch_positions", positions[:, 1:])
        self.register_buffer("class_token", tensors[f"{name}.class_embedding"].float() + positions[:, :1])
        sizes = architecture.vision
        self.layers = nn.ModuleList(
            _VisionLayer(tensors, f"vision_model.encoder.layers.{index}", sizes) for index in range(sizes.layers)
        )
        self.norm = Norm(tensors, "vision_model.post_layernorm", sizes.eps)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [n, S, S, 3] -> image tokens [n, 1 + grid * grid, D], the class token first."""
        states = self._embed(images)
        for layer in self.layers:
            states = layer(states)
        return self.norm(states)

    def _embed(self, images: Tensor) -> Tensor:
        n, grid, patch = len(images), self.grid, self.patch_px
        # A border that is smaller than a patch is ignored, as in the convolution.
        used = images[:, : grid * patch, : grid * patch]
        patches = used.reshape(n, grid, patch, grid, patch, 3).transpose(2, 3).reshape(n, grid * grid, -1)
        pixels = (patches.to(self.class_token.dtype) - PIXEL_CENTRE) / PIXEL_SCALE
        tokens = self.patches(pixels) + self.patch_positions
        return torch.cat([self.class_token.expand(n, -1, -1), tokens], dim=1)


class _VisionLayer(nn.Module):
    def __init__(self, tensors: Tensors, name: str, sizes: TowerSizes) -> None:
        super().__init__()
        self._heads = sizes.heads
        self.norm1 = Norm(tensors, f"{name}.layer_norm1", sizes.eps)
        self.qkv = Dense.load(tensors, f"{name}.self_attn.qkv")
        self.projection = Dense.load(tensors, f"{name}.self_attn.projection")
        self.norm2 = Norm(tensors, f"{name}.layer_norm2", sizes.eps)
        self.mlp = FeedForward(Dense.load(tensors, f"{name}.mlp.fc1"), Dense.load(tensors, f"{name}.mlp.fc2"))

    def forward(self, states: Tensor) -> Tensor:
        query, key, value = split_heads(self.qkv(self.norm1(states)), 3, self._heads)
        states = states + self.projection(attend(query, key, value))
        return states + self.mlp(self.norm2(states))
