"""LoRA through peft: adds small trainable matrices to frozen linear layers; imported where a training asks for it."""

from collections.abc import Sequence

from peft import LoraConfig, inject_adapter_in_model
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from faceattr.errors import ConfigError
from faceattr.models.backbones.blocks import Backbone
from faceattr.models.backbones.from_transformers import TowerBackbone
from faceattr.models.lora.merging import has_lora

# The attention projections of timm's families; the towers of transformers have theirs in `towers/kinds.py`.
_TARGETS: dict[type[nn.Module], tuple[str, ...]] = {VisionTransformer: ("attn.qkv", "attn.proj")}


def apply_lora(
    backbone: Backbone,
    *,
    rank: int = 8,
    alpha: int = 16,
    dropout: float = 0.0,
    targets: Sequence[str] | None = None,
    use_dora: bool = False,
) -> int:
    """Adds LoRA to linear layers in the blocks that are not frozen, and freezes the backbone's own weights.

    The outputs do not change until the new matrices are trained, because their product starts at zero. The wrapped
    layers keep their names, so that freezing and splitting work as before.

    Args:
        backbone: changed in place.
        rank: rank of the LoRA matrices.
        alpha: the product of the matrices is scaled by alpha / rank.
        dropout: dropout rate on the input of the matrices, in training.
        targets: name suffixes of the linear layers to adapt; the attention projections by default.
        use_dora: whether to use weight-decomposed LoRA (DoRA).

    Returns:
        Number of layers that were given LoRA.

    Raises:
        ConfigError: no layer matches, or the backbone already has LoRA.
    """
    if has_lora(backbone):
        raise ConfigError("LoRA is applied already; merge_lora first")
    if rank < 1:
        raise ConfigError(f"LoRA: rank is {rank}; expected at least 1")
    endings = tuple(targets) if targets is not None else _default_targets(backbone)
    linear = [name for name, module in backbone.module.named_modules() if isinstance(module, nn.Linear)]
    chosen = [
        name
        for name in linear
        if name.endswith(tuple(f".{ending}" for ending in endings)) and backbone.block_of(name) >= backbone.frozen_depth
    ]
    if not chosen:
        known = sorted({name.rpartition(".")[2] for name in linear})
        raise ConfigError(
            f"LoRA: no linear layer beyond freeze depth {backbone.frozen_depth} of {backbone.num_blocks} ends with "
            f"{list(endings)}; {backbone.config.name} has {', '.join(known) or 'no linear layers'}"
        )
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=chosen,
        use_dora=use_dora,
    )
    inject_adapter_in_model(config, backbone.module)
    for name, parameter in backbone.module.named_parameters():
        parameter.requires_grad_("lora_" in name)
    return len(chosen)


def _default_targets(backbone: Backbone) -> tuple[str, ...]:
    for family, endings in _TARGETS.items():
        if isinstance(backbone.module, family):
            return endings
    if isinstance(backbone, TowerBackbone) and backbone.tower is not None and backbone.tower.adapted:
        return backbone.tower.adapted
    raise ConfigError(
        f"LoRA: {backbone.config.name} ({type(backbone.module).__name__}) has no default target layers, only vision "
        "transformers do; name its linear layers in `targets`"
    )
