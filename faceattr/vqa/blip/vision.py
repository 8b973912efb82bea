"""BLIP's vision tower on uint8 pixels: the checkpoint's own layers around fused attention.

The processor's (x / 255 - mean) / std is linear, and so is the patch projection after it, so the former is folded into
the latter. Pixels enter as (x - 128) / 64, which half precision represents exactly and which is centred, so that the
folded weights have ordinary sizes and nothing cancels.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

PIXEL_CENTRE = 128.0
PIXEL_SCALE = 64.0


def fold_normalisation(
    weight: Tensor, bias: Tensor, *, mean: Sequence[float], std: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Returns the patch projection for (x - 128) / 64 of raw pixels x instead of normalised pixels.

    Args:
        weight: float [D, 3, P, P], the checkpoint's convolution.
        bias: float [D].
        mean: per RGB channel, in units of x / 255.
        std: per RGB channel, in units of x / 255.

    Returns:
        float32 [D, P * P * 3], inputs ordered row, column, channel as in an RGB array, and float32 [D].
    """
    weight, bias = weight.double(), bias.double()
    channel_mean, channel_std = torch.tensor(mean).double(), torch.tensor(std).double()
    shift = (PIXEL_CENTRE / 255 - channel_mean) / channel_std
    folded = weight * (PIXEL_SCALE / (255 * channel_std))[:, None, None]
    folded_bias = bias + (weight * shift[:, None, None]).sum(dim=(1, 2, 3))
    return folded.permute(0, 2, 3, 1).flatten(1).float(), folded_bias.float()


class VisionTower:
    """Computes image tokens of uint8 images, as `BlipVisionModel` does from the processor's output.

    Attributes:
        patch_px: side of a patch.
        grid: patches along one side of the image.
    """

    def __init__(self, model: Any, *, patch_weight: Tensor, patch_bias: Tensor) -> None:
        """Args: `model`, a `BlipVisionModel`; the folded patch projection on the model's device, in its dtype."""
        self._model = model
        self._weight = patch_weight
        self._bias = patch_bias
        self.patch_px: int = model.config.patch_size
        self.grid: int = model.config.image_size // self.patch_px

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 [n, S, S, 3] -> image tokens [n, 1 + grid * grid, D], the class token first."""
        states = self._embed(images)
        for layer in self._model.encoder.layers:
            states = states + _self_attention(layer.self_attn, layer.layer_norm1(states))
            states = states + layer.mlp(layer.layer_norm2(states))
        return self._model.post_layernorm(states)

    def _embed(self, images: Tensor) -> Tensor:
        n, grid, patch = len(images), self.grid, self.patch_px
        # A border that is smaller than a patch is ignored, as in the convolution.
        used = images[:, : grid * patch, : grid * patch]
        patches = used.reshape(n, grid, patch, grid, patch, 3).transpose(2, 3).reshape(n, grid * grid, -1)
        pixels = (patches.to(self._weight.dtype) - PIXEL_CENTRE) / PIXEL_SCALE
        embeddings = self._model.embeddings
        class_token = embeddings.class_embedding.expand(n, -1, -1)
        tokens = torch.cat([class_token, F.linear(pixels, self._weight, self._bias)], dim=1)
        return tokens + embeddings.position_embedding


def _self_attention(attention: Any, states: Tensor) -> Tensor:
    n, tokens, width = states.shape
    query, key, value = attention.qkv(states).view(n, tokens, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    context = F.scaled_dot_product_attention(query, key, value, scale=attention.scale)
    return attention.projection(context.transpose(1, 2).reshape(n, tokens, width))
