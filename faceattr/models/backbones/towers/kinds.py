"""The vision towers of transformers, as data: how each kind runs its layers, and the pooled features that it defines.

A kind is a `model_type` of transformers, that of the `vision_config` for a model of images and text. For a kind with a
row in `TOWERS` every block can be frozen and cached. Any other kind whose output has a `pooler_output` runs as a whole,
and its layers can still be frozen.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from faceattr.models.backbones.chains import Chain

Sizes = Literal["table", "patches", "own", "any"]
"""Which images a kind takes: `table` has a position for each patch and the table is interpolated once, `patches` takes
every multiple of its patch, `own` only the size of its config, `any` every size."""


@dataclass(frozen=True, kw_only=True)
class Tower:
    """One kind of vision tower.

    Attributes:
        chain: order of its layers.
        pool: (module, output of the last layer) -> pooled features [n, num_features], as transformers computes them.
        sizes: sizes of images that it takes.
        rotary: name of the module that makes rotary positions of images; "" if there is none.
        adapted: endings of the names of its attention projections, for LoRA.
    """

    chain: Chain
    pool: Callable[[Any, Tensor], Tensor]
    sizes: Sizes
    rotary: str = ""
    adapted: tuple[str, ...] = ()


def _clip(module: Any, x: Tensor) -> Tensor:
    return module.post_layernorm(x[:, 0, :])


def _siglip(module: Any, x: Tensor) -> Tensor:
    return module.head(module.post_layernorm(x))


def _dinov2(module: Any, x: Tensor) -> Tensor:
    return module.layernorm(x)[:, 0, :]


def _dinov3(module: Any, x: Tensor) -> Tensor:
    return module.norm(x)[:, 0, :]


def _vit(module: Any, x: Tensor) -> Tensor:
    """A checkpoint without a pooler is read at its class token, as transformers' own classifier does."""
    tokens = module.layernorm(x)
    return tokens[:, 0, :] if module.pooler is None else module.pooler(tokens)


def _convnext(module: Any, x: Tensor) -> Tensor:
    return module.layernorm(x.mean([-2, -1]))


def _efficientnet(module: Any, x: Tensor) -> Tensor:
    return module.pooler(x).flatten(1)


def _dinov3_convnext(module: Any, x: Tensor) -> Tensor:
    return module.layer_norm(module.pool(x).flatten(2).transpose(1, 2))[:, 0]


_SELF = tuple(f"self_attn.{name}_proj" for name in ("q", "k", "v", "out"))
_ATTENTION = tuple(f"attention.{name}_proj" for name in "qkvo")
_DINOV2 = Tower(
    chain=Chain(stem=("embeddings",), layers="encoder.layer"), pool=_dinov2, sizes="patches", adapted=_ATTENTION
)
_VIT = Tower(chain=Chain(stem=("embeddings",), layers="layers"), pool=_vit, sizes="own", adapted=_ATTENTION)
_CONVNEXT = Tower(
    chain=Chain(stem=("embeddings",), stages="encoder.stages", entry="downsampling_layer", layers="layers"),
    pool=_convnext,
    sizes="any",
)
CLIP_KIND = "clip_vision_model"
TOWERS: dict[str, Tower] = {
    CLIP_KIND: Tower(
        chain=Chain(stem=("embeddings", "pre_layrnorm"), layers="encoder.layers"),
        pool=_clip,
        sizes="table",
        adapted=("q_proj", "k_proj", "v_proj", "out_proj"),
    ),
    # SigLIP and SigLIP 2 of one image size; its pooling attends to all patches.
    "siglip_vision_model": Tower(
        chain=Chain(stem=("embeddings",), layers="encoder.layers"), pool=_siglip, sizes="table", adapted=_SELF
    ),
    "dinov2": _DINOV2,
    "dinov2_with_registers": _DINOV2,
    "dinov3_vit": Tower(
        chain=Chain(stem=("embeddings",), layers="model.layer", stem_owns=("rope_embeddings",)),
        pool=_dinov3,
        sizes="patches",
        rotary="rope_embeddings",
        adapted=_ATTENTION,
    ),
    "dinov3_convnext": Tower(
        chain=Chain(stages="model.stages", entry="downsample_layers", layers="layers"),
        pool=_dinov3_convnext,
        sizes="any",
    ),
    "convnext": _CONVNEXT,
    "convnextv2": _CONVNEXT,
    "efficientnet": Tower(
        chain=Chain(
            stem=("embeddings",),
            layers="encoder.blocks",
            tail=("encoder.top_conv", "encoder.top_bn", "encoder.top_activation"),
        ),
        pool=_efficientnet,
        sizes="any",
    ),
    "vit": _VIT,
    "deit": _VIT,
}
"""Kind -> its tower."""

OPTIONAL_POOLER = ("vit", "deit")
"""Kinds of which checkpoints are published with and without the weights of their pooling layer."""

REFUSED: dict[str, str] = {
    "siglip2_vision_model": (
        "SigLIP 2 of the kind NaFlex takes patches of images of any shape; use a SigLIP 2 checkpoint of one image "
        "size, such as hf:google/siglip2-base-patch16-224"
    ),
    "timm_wrapper": "the checkpoint is timm's; give its timm name, which is what follows `timm/` in the hub id",
    "timm_backbone": "the checkpoint is timm's; give its timm name, which is what follows `timm/` in the hub id",
    "faceattr": "it is a model of faceattr; load it with MultiAttributeModel.from_pretrained",
}
"""Kind -> what to use in its place."""
