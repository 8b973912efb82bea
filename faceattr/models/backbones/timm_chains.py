"""The order in which timm's networks run their parts, so that they can be frozen and cached at any block.

A family that is not in the table is divided into timm's parameter groups: it can be frozen in part, and run as a whole.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from timm.models import group_parameters
from timm.models.convnext import ConvNeXt
from timm.models.efficientnet import EfficientNet
from timm.models.eva import Eva
from timm.models.inception_v3 import InceptionV3
from timm.models.resnet import ResNet
from timm.models.vgg import VGG
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from faceattr.models.backbones.blocks import Block
from faceattr.models.backbones.chains import Chain, chain_blocks


def find_timm_blocks(module: Any) -> tuple[Block, ...]:
    """Returns blocks with steps if the forward pass is known to be a chain, else timm's parameter groups."""
    for family, find in _CHAINS.items():
        # A subclass may run its layers differently.
        if isinstance(module, family) and type(module).forward_features is family.forward_features:
            return find(module)
    return _group_blocks(module)


def _group_blocks(module: Any) -> tuple[Block, ...]:
    """Returns blocks that own one timm parameter group each, and can only be run together."""
    group_of = group_parameters(module, module.group_matcher(coarse=False), reverse=True)
    owns: dict[int, dict[str, None]] = {group: {} for group in sorted(set(group_of.values()))}
    for name, group in group_of.items():
        holder = name.rpartition(".")[0]
        # A layer is assigned as a whole, so that it keeps its batch-norm statistics, which are not parameters.
        beside = {other for key, other in group_of.items() if key.rpartition(".")[0] == holder}
        owns[group][holder if holder and beside == {group} else name] = None
    return tuple(Block(f"group{group}", (), tuple(names)) for group, names in owns.items())


def _resnet_blocks(module: Any) -> tuple[Block, ...]:
    stem = ("conv1", "bn1", "act1", "maxpool")
    layers = [f"layer{stage}.{i}" for stage in range(1, 5) for i in range(len(getattr(module, f"layer{stage}")))]
    return (Block("stem", stem, stem), *(Block(name, (name,), (name,)) for name in layers))


def _vit_blocks(module: Any) -> tuple[Block, ...]:
    # Class, register and distillation tokens and positions are parameters of the model itself.
    embeddings = [name for name, _ in module.named_parameters(recurse=False)]
    stem = Block(
        "stem",
        ("patch_embed", "_pos_embed", "patch_drop", "norm_pre"),
        ("patch_embed", *embeddings, "pos_drop", "patch_drop", "norm_pre"),
    )
    names = [f"blocks.{i}" for i in range(len(module.blocks))]
    last = Block(names[-1], (names[-1], "norm"), (names[-1], "norm"))
    return (stem, *(Block(name, (name,), (name,)) for name in names[:-1]), last)


def _vgg_blocks(module: Any) -> tuple[Block, ...]:
    """Returns one block per convolution, with the norm, activation and pooling after it."""
    starts = [i for i, layer in enumerate(module.features) if isinstance(layer, nn.Conv2d)]
    ends = [*starts[1:], len(module.features)]
    chains = [tuple(f"features.{i}" for i in range(a, b)) for a, b in zip(starts, ends, strict=True)]
    return tuple(Block("stem" if i == 0 else chain[0], chain, chain) for i, chain in enumerate(chains))


def _inception_blocks(module: Any) -> tuple[Block, ...]:
    names = list(module.layer_names)
    stem, second = tuple(names[:4]), tuple(names[4:7])
    rest = (Block(name, (name,), (name,)) for name in names[7:])
    return (Block("stem", stem, stem), Block(second[0], second, second), *rest)


def _eva_blocks(module: Any) -> tuple[Block, ...]:
    """Returns the blocks of EVA-02 and DINOv3, unless the rotary positions differ by image or by layer."""
    if module.patch_drop is not None or module.rope_mixed:
        return _group_blocks(module)
    embeddings = tuple(name for name, _ in module.named_parameters(recurse=False))
    return chain_blocks(
        module,
        Chain(
            stem=("patch_embed", "_pos_embed", "norm_pre"),
            layers="blocks",
            tail=("norm",),
            stem_owns=(*embeddings, "pos_drop", "rope"),
        ),
    )


_CONVNEXT = Chain(stem=("stem",), stages="stages", entry="downsample", layers="blocks", tail=("norm_pre",))
_EFFICIENTNET = Chain(stem=("conv_stem", "bn1"), stages="blocks", tail=("conv_head", "bn2"))
_CHAINS: dict[Any, Callable[[Any], tuple[Block, ...]]] = {
    ResNet: _resnet_blocks,
    VisionTransformer: _vit_blocks,
    VGG: _vgg_blocks,
    InceptionV3: _inception_blocks,
    ConvNeXt: partial(chain_blocks, chain=_CONVNEXT),
    EfficientNet: partial(chain_blocks, chain=_EFFICIENTNET),
    Eva: _eva_blocks,
}
