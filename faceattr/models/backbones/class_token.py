"""Runs the last block of a transformer for the class token alone, if the features are that token.

A model that pools by its class token reads one token of hundreds from the last block's output. Keys and values are
needed for all tokens; query, projection and MLP for one. The outputs are equal up to float32 rounding, at a sixth of
the block's cost.
"""

from typing import Any

import torch
from timm.layers import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from faceattr.models.backbones.blocks import Backbone
from faceattr.models.freezing import Suffix


class ClassTokenSuffix(Suffix):
    """A suffix whose last block runs for the class token alone; see `Suffix`."""

    def forward(self, activations: Tensor) -> dict[str, Tensor]:
        """Maps the prefix's output to attribute name -> float32 [n, outputs]."""
        model = self._model[0]
        backbone, last = model.backbone, model.backbone.num_blocks - 1
        if self.depth > last:
            return super().forward(activations)
        frozen = max(self.depth, min(backbone.frozen_depth, last))
        with torch.no_grad():
            tokens = backbone.run(activations, self.depth, frozen)
        tokens = backbone.run(tokens, frozen, last)
        with torch.set_grad_enabled(torch.is_grad_enabled() and backbone.frozen_depth <= last):
            features = backbone.pool(_run_last(backbone, tokens))
        return model.apply_heads(features)


def reads_class_token(backbone: Backbone) -> bool:
    """Whether `ClassTokenSuffix` gives the same outputs as the whole last block.

    True for plain vision transformers of timm and CLIP towers of transformers that pool by the class token, without
    dropout in the last block (its random draws would differ) and without LoRA there.
    """
    module = backbone.module
    if _is_clip(backbone):
        from transformers.models.clip.modeling_clip import CLIPEncoderLayer  # noqa: PLC0415 - late: slow, rarely needed

        last: Any = module.encoder.layers[-1]
        attention = last.self_attn
        plain = isinstance(last, CLIPEncoderLayer) and attention.dropout == 0
        linear = [attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj]
    elif type(module) is VisionTransformer and module.attn_pool is None and module.global_pool == "token":
        last = module.blocks[-1]
        attention = last.attn
        plain = type(last) is Block and type(attention) is Attention and attention.gate is None
        linear = [attention.qkv, attention.proj] if plain else []
    else:
        return False
    drops = [each.p for each in last.modules() if isinstance(each, nn.Dropout)]
    return plain and not any(drops) and all(type(each) is nn.Linear for each in linear)


def _is_clip(backbone: Backbone) -> bool:
    """Whether it is a CLIP tower of transformers: the one kind whose settings have no model_type."""
    return backbone.config.hf_config is not None and "model_type" not in backbone.config.hf_config


def _run_last(backbone: Backbone, tokens: Tensor) -> Tensor:
    """Runs the last block: [n, tokens, D] -> [n, 1, D], the class token."""
    if _is_clip(backbone):
        return _clip_layer(backbone.module.encoder.layers[-1], tokens)
    return backbone.module.norm(_timm_block(backbone.module.blocks[-1], tokens))


def _timm_block(block: Any, tokens: Tensor) -> Tensor:
    attention, width = block.attn, block.attn.attn_dim
    normed = block.norm1(tokens)
    weight, bias = attention.qkv.weight, attention.qkv.bias
    query = functional.linear(normed[:, :1], weight[:width], None if bias is None else bias[:width])
    both = functional.linear(normed, weight[width:], None if bias is None else bias[width:])
    query = attention.q_norm(_split_heads(query, attention.num_heads))
    key, value = (_split_heads(each, attention.num_heads) for each in both.split(width, dim=-1))
    mixed = functional.scaled_dot_product_attention(query, attention.k_norm(key), value)
    mixed = attention.proj(attention.norm(mixed.transpose(1, 2).flatten(2)))
    token = tokens[:, :1] + block.drop_path1(block.ls1(mixed))
    return token + block.drop_path2(block.ls2(block.mlp(block.norm2(token))))


def _clip_layer(layer: Any, tokens: Tensor) -> Tensor:
    attention = layer.self_attn
    normed = layer.layer_norm1(tokens)
    query, key, value = (
        _split_heads(project(each), attention.num_heads)
        for project, each in (
            (attention.q_proj, normed[:, :1]),
            (attention.k_proj, normed),
            (attention.v_proj, normed),
        )
    )
    mixed = functional.scaled_dot_product_attention(query, key, value, scale=attention.scale)
    token = tokens[:, :1] + attention.out_proj(mixed.transpose(1, 2).flatten(2))
    return token + layer.mlp(layer.layer_norm2(token))


def _split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Reshapes [n, tokens, D] -> [n, heads, tokens, D / heads]."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)
