"""Backbones by name.

resnet50, vit_base_patch16_224.augreg_in21k, vgg16, inception_v3    timm, with or without a weights tag
vit_large_patch14_clip_quickgelu_224.openai                         timm's CLIP
hf:facebook/dinov2-base, hf:s3://bucket/folder, ./folder            a vision tower of transformers
./FaRL-Base-Patch16.pth, or a folder with such a file alone         CLIP weights in OpenAI's layout
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm

from faceattr.config import StorageConfig
from faceattr.errors import ConfigError
from faceattr.models.backbones.blocks import Backbone, BackboneConfig, Block
from faceattr.models.backbones.from_timm import build_timm_backbone, check_timm_name, native_name
from faceattr.models.backbones.preprocessing import Preprocessing

__all__ = ["Backbone", "BackboneConfig", "Block", "build_backbone", "built_name", "restore_backbone"]

HF_PREFIX = "hf:"
"""Prefix of the name of a checkpoint of transformers, or of CLIP weights."""

# Part of a timm name -> arguments with which timm builds what the checkpoint defines. DINOv3's features are its class
# token; timm would average the patches.
_DEFINED: dict[str, dict[str, Any]] = {"_dinov3": {"global_pool": "token"}}


def build_backbone(
    name: str,
    *,
    pretrained: bool,
    image_size: int | None = None,
    args: Mapping[str, Any] | None = None,
    storage: StorageConfig | None = None,
) -> Backbone:
    """Builds an image network without a classifier, in training mode, float32, on the CPU.

    Args:
        name: a timm model; `hf:` followed by a hub id, folder or URI of a checkpoint of transformers; a local folder;
            or a file of CLIP weights. If a timm model and a folder have the same name, the timm model is built;
            `./name` is the folder. The config of the backbone stores the name that is built; see `built_name`.
        pretrained: whether to download or read weights; otherwise they are random.
        image_size: side of the images in px; by default the model's own.
        args: further arguments of timm's constructor, JSON values only; for CLIP weights, `hidden_act`.
        storage: how object storage is reached, where the source is a URI.

    Raises:
        ConfigError: unknown name (the error lists similar names), weights tag, argument or size.
        ModelError: weights or settings are not available or do not fit.
    """
    if image_size is not None and image_size < 1:
        raise ConfigError(f"backbone {name!r}: image_size is {image_size}; expected a side in px")
    if is_timm_name(name):
        check_timm_name(name, pretrained=pretrained)
        chosen = {**defined_arguments(name), **(args or {})}
        return build_timm_backbone(native_name(name), pretrained=pretrained, image_size=image_size, args=chosen)
    from faceattr.models.backbones.from_transformers import build_tower_backbone  # noqa: PLC0415 - late: transformers

    return build_tower_backbone(
        name.removeprefix(HF_PREFIX),
        pretrained=pretrained,
        image_size=image_size,
        name=name,
        args=args or {},
        storage=storage,
    )


def defined_arguments(name: str) -> dict[str, Any]:
    """Returns the arguments with which timm computes the features that the checkpoint of this name defines."""
    return next((dict(args) for part, args in _DEFINED.items() if is_timm_name(name) and part in name), {})


def built_name(name: str) -> str:
    """Returns the name that `build_backbone` builds: the QuickGELU variant if the weights were trained with it.

    Raises:
        ConfigError: timm has no such model or weights, or no model that fits the weights.
    """
    if not is_timm_name(name):
        return name
    check_timm_name(name, pretrained=False)
    return native_name(name)


def is_timm_name(name: str) -> bool:
    """Whether a backbone's name denotes a timm model, known or unknown, rather than a checkpoint of transformers."""
    is_hf = name.startswith(HF_PREFIX)
    return not is_hf and (timm.is_model(name) or not Path(name).expanduser().exists())


def restore_backbone(config: BackboneConfig, preprocessing: Preprocessing) -> Backbone:
    """Builds the backbone that `config` describes, with random weights and the given preprocessing, without network.

    The name is built unchanged: a model saved as `vit_large_patch14_clip_224.openai` was trained with GELU.

    Raises:
        ConfigError, ModelError: the installed version of timm or transformers cannot build it.
    """
    if config.hf_config is not None:
        from faceattr.models.backbones.from_transformers import restore_tower_backbone  # noqa: PLC0415 - as above

        return restore_tower_backbone(config, preprocessing)
    backbone = build_timm_backbone(config.name, pretrained=False, image_size=config.image_size, args=config.args)
    backbone.preprocessing = preprocessing
    return backbone
