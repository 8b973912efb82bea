"""Backbones by name.

resnet50, vit_base_patch16_224.augreg_in21k, vgg16, inception_v3    timm, with or without a weights tag
vit_large_patch14_clip_quickgelu_224.openai                         timm's CLIP
hf:openai/clip-vit-large-patch14, hf:s3://bucket/folder, ./folder   transformers' CLIPVisionModel
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm

from faceattr.config import StorageConfig
from faceattr.errors import ConfigError
from faceattr.models.backbones.blocks import Backbone, BackboneConfig, Block
from faceattr.models.backbones.from_timm import build_timm_backbone, check_timm_name, native_name
from faceattr.models.backbones.from_transformers import build_clip_backbone, restore_clip_backbone
from faceattr.models.backbones.preprocessing import Preprocessing

__all__ = ["Backbone", "BackboneConfig", "Block", "build_backbone", "built_name", "restore_backbone"]

HF_PREFIX = "hf:"
"""Of the name of a CLIP model."""


def build_backbone(
    name: str,
    *,
    pretrained: bool,
    image_size: int | None = None,
    args: Mapping[str, Any] | None = None,
    storage: StorageConfig | None = None,
) -> Backbone:
    """Builds an image network without classifier, in training mode, float32, on the CPU.

    Args:
        name: a timm model, `hf:` and a hub id, folder or URI of a CLIP model, or a local folder. Where a timm model
            and a folder have the same name, it is the timm model; `./name` is the folder. The backbone's config has
            the name of what is built, see `built_name`.
        pretrained: whether weights are downloaded or read; random otherwise.
        image_size: side of the images in px; the model's own by default.
        args: further arguments of timm's constructor, JSON values only.
        storage: how object storage is reached, where the source is a URI.

    Raises:
        ConfigError: unknown name (near names are given), weights tag, argument or size.
        ModelError: weights or settings cannot be had or do not fit.
    """
    if image_size is not None and image_size < 1:
        raise ConfigError(f"backbone {name!r}: image_size is {image_size}; expected a side in px")
    if is_timm_name(name):
        check_timm_name(name, pretrained=pretrained)
        return build_timm_backbone(native_name(name), pretrained=pretrained, image_size=image_size, args=args)
    if args:
        raise ConfigError(f"backbone {name!r}: model arguments ({sorted(args)}) are for timm models only")
    return build_clip_backbone(
        name.removeprefix(HF_PREFIX),
        pretrained=pretrained,
        image_size=image_size,
        name=name,
        storage=storage,
    )


def built_name(name: str) -> str:
    """The name of what `build_backbone` builds: for weights that were trained with QuickGELU the one that has it.

    Raises:
        ConfigError: timm has no such model or weights, or cannot build what the weights are of.
    """
    if not is_timm_name(name):
        return name
    check_timm_name(name, pretrained=False)
    return native_name(name)


def is_timm_name(name: str) -> bool:
    """Whether a backbone's name is one of timm's, known or not, and not of a CLIP model."""
    is_hf = name.startswith(HF_PREFIX)
    return not is_hf and (timm.is_model(name) or not Path(name).expanduser().is_dir())


def restore_backbone(config: BackboneConfig, preprocessing: Preprocessing) -> Backbone:
    """The backbone that `config` describes, with random weights and the given preprocessing, without the network.

    Its name is built as it stands: a model saved as `vit_large_patch14_clip_224.openai` was trained with GELU.

    Raises:
        ConfigError, ModelError: this version of timm or transformers cannot build it.
    """
    if config.hf_config is not None:
        return restore_clip_backbone(config, preprocessing)
    backbone = build_timm_backbone(config.name, pretrained=False, image_size=config.image_size, args=config.args)
    backbone.preprocessing = preprocessing
    return backbone
