"""The modules that both towers consist of, built from a checkpoint's tensors in float32; they are only evaluated."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

Tensors = Mapping[str, Tensor]
"""Name in the checkpoint -> tensor in the precision that it is stored in."""


class Dense(nn.Module):
    """x W^T + b.

    Attributes:
        weight: [outputs, inputs].
        bias: [outputs].
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.float())
        self.register_buffer("bias", bias.float())

    @classmethod
    def load(cls, tensors: Tensors, *names: str) -> "Dense":
        """Returns one layer that gives the outputs of all named layers, one after another."""
        return cls(_stack(tensors, names, "weight"), _stack(tensors, names, "bias"))

    def forward(self, states: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        return F.linear(states, self.weight, self.bias)


class Norm(nn.Module):
    """Layer normalisation over the last axis."""

    weight: Tensor
    bias: Tensor

    def __init__(self, tensors: Tensors, name: str, eps: float) -> None:
        super().__init__()
        self.register_buffer("weight", tensors[f"{name}.weight"].float())
        self.register_buffer("bias", tensors[f"{name}.bias"].float())
        self._eps = eps

    def forward(self, states: Tensor) -> Tensor:
        """[..., width] -> the same shape."""
        return F.layer_norm(states, self.weight.shape, self.weight, self.bias, self._eps)


class FeedForward(nn.Module):
    """down(gelu(up(x))), with the exact GELU."""

    def __init__(self, up: Dense, down: Dense) -> None:
        super().__init__()
        self.up = up
        self.down = down

    def forward(self, states: Tensor) -> Tensor:
        """[..., width] -> the same shape."""
        return self.down(F.gelu(self.up(states)))


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention.

    Args:
        query: [n, tokens, heads, head width].
        key: [n, source tokens, heads, head width]; no copy is made of a view into several layers' keys.
        value: as `key`.
        mask: [tokens, source tokens], added to the attention scores.

    Returns:
        [n, tokens, heads * head width].
    """
    context = F.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attn_mask=mask
    )
    return context.transpose(1, 2).flatten(2)


def split_heads(states: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """[n, tokens, parts * width] -> `parts` views [n, tokens, heads, head width]."""
    return states.unflatten(-1, (parts, heads, -1)).unbind(2)


def _stack(tensors: Tensors, names: Sequence[str], kind: str) -> Tensor:
    parts = [tensors[f"{name}.{kind}"] for name in names]
    return parts[0] if len(parts) == 1 else torch.cat(parts)
