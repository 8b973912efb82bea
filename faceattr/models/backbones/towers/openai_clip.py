"""CLIP weights in OpenAI's layout, as a vision tower: a state dict in a file or a folder, without a config.

So OpenAI, FaRL and open_clip publish CLIP: one file whose tensors `visual.*` are the vision transformer.

    visual.conv1.weight                                  embeddings.patch_embedding.weight
    visual.class_embedding, visual.positional_embedding  embeddings.class_embedding, .position_embedding.weight
    visual.ln_pre.*, visual.ln_post.*                    pre_layrnorm.*, post_layernorm.*
    visual.transformer.resblocks.I.attn.in_proj_*        encoder.layers.I.self_attn.{q,k,v}_proj.*, a third each
    visual.transformer.resblocks.I.mlp.c_fc.*, c_proj.*  encoder.layers.I.mlp.fc1.*, fc2.*

The shape of the tower follows from the tensors. The features are the normalised class token, before the projection into
the space that CLIP shares with texts, as every other CLIP tower gives it here.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timm.data import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel

from faceattr.errors import ConfigError, ModelError
from faceattr.models.backbones.preprocessing import Preprocessing
from faceattr.models.backbones.towers.processors import PROCESSOR_FILES, read_preprocessing
from faceattr.models.weights import load_exactly, read_state_dict

WEIGHT_FILES = ("*.safetensors", "*.pth", "*.pt", "*.bin")
"""Patterns of the file with the weights in a folder."""

_PREFIX = "visual."
# Every vision transformer that was published in this layout has 64 features per attention head.
_HEAD_WIDTH = 64
_ACTIVATION = "hidden_act"
_ACTIVATIONS = ("quick_gelu", "gelu")
_LAYER = r"transformer\.resblocks\.(\d+)\."
_NAMES = tuple(
    (re.compile(old), new)
    for old, new in (
        (r"class_embedding", "embeddings.class_embedding"),
        (r"positional_embedding", "embeddings.position_embedding.weight"),
        (r"conv1\.weight", "embeddings.patch_embedding.weight"),
        (r"ln_pre\.(weight|bias)", r"pre_layrnorm.\1"),
        (r"ln_post\.(weight|bias)", r"post_layernorm.\1"),
        (_LAYER + r"ln_([12])\.(weight|bias)", r"encoder.layers.\1.layer_norm\2.\3"),
        (_LAYER + r"attn\.in_proj_(weight|bias)", r"encoder.layers.\1.self_attn.*_proj.\2"),
        (_LAYER + r"attn\.out_proj\.(weight|bias)", r"encoder.layers.\1.self_attn.out_proj.\2"),
        (_LAYER + r"mlp\.c_fc\.(weight|bias)", r"encoder.layers.\1.mlp.fc1.\2"),
        (_LAYER + r"mlp\.c_proj\.(weight|bias)", r"encoder.layers.\1.mlp.fc2.\2"),
    )
)


def build_openai_tower(
    path: Path, *, pretrained: bool, args: Mapping[str, Any], name: str
) -> tuple[CLIPVisionModel, Preprocessing]:
    """Builds the vision tower whose weights are in a file, with its preprocessing.

    Args:
        path: `.safetensors`, or a file of `torch.save`, read with `weights_only=True`.
        pretrained: False reads only the shape of the tower and leaves the weights random.
        args: `hidden_act`: quick_gelu, which OpenAI and FaRL trained with and which is the default, or gelu.
        name: the user's name of the backbone, for messages.

    Raises:
        ConfigError: an argument is unknown.
        ModelError: the file has another layout, or is not readable.
    """
    activation = _read_activation(args, name)
    tensors = _rename(read_state_dict(path), path)
    patches, positions = (
        _need(tensors, f"embeddings.{each}", path) for each in ("patch_embedding.weight", "position_embedding.weight")
    )
    width, patch = patches.shape[0], patches.shape[-1]
    side = math.isqrt(len(positions) - 1)
    if side * side != len(positions) - 1:
        raise ModelError(f"{path}: {len(positions)} positions are not a class token and a square of patches")
    num_layers = 1 + max((int(key.split(".")[2]) for key in tensors if key.startswith("encoder.layers.")), default=-1)
    tower = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=width,
            intermediate_size=len(_need(tensors, "encoder.layers.0.mlp.fc1.weight", path)),
            num_hidden_layers=num_layers,
            num_attention_heads=max(1, width // _HEAD_WIDTH),
            image_size=side * patch,
            patch_size=patch,
            hidden_act=activation,
        )
    )
    if pretrained:
        load_exactly(tower, {key: tensor.float() for key, tensor in tensors.items()}, str(path))
    if any((path.parent / each).is_file() for each in PROCESSOR_FILES):
        return tower, read_preprocessing(path.parent, is_clip=True)
    return tower, Preprocessing(size_px=side * patch, mean=OPENAI_CLIP_MEAN, std=OPENAI_CLIP_STD)


def find_openai_weights(folder: Path) -> Path | None:
    """Returns the one file of weights in a folder; None if there is none.

    Raises:
        ModelError: there are several.
    """
    found = sorted({path for pattern in WEIGHT_FILES for path in folder.glob(pattern)})
    if len(found) > 1:
        raise ModelError(
            f"{folder}: holds no config.json, and {', '.join(path.name for path in found)}; name the file to load"
        )
    return found[0] if found else None


def _read_activation(args: Mapping[str, Any], name: str) -> str:
    unknown = sorted(set(args) - {_ACTIVATION})
    activation = args.get(_ACTIVATION, _ACTIVATIONS[0])
    if unknown or activation not in _ACTIVATIONS:
        raise ConfigError(
            f"backbone {name!r}: model arguments {dict(args)}; CLIP weights in OpenAI's layout take {_ACTIVATION} "
            f"alone, {' or '.join(_ACTIVATIONS)}"
        )
    return str(activation)


def _rename(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    vision = {name.removeprefix(_PREFIX): each for name, each in tensors.items() if name.startswith(_PREFIX)}
    if "conv1.weight" not in vision:
        raise ModelError(
            f"{path}: expected CLIP weights in OpenAI's layout, with {_PREFIX}conv1.weight; found no config.json of "
            f"transformers in the folder, and in the file {', '.join(sorted(tensors)[:3])}"
        )
    vision.pop("proj", None)
    renamed: dict[str, Tensor] = {}
    for name, tensor in vision.items():
        ours = next((match.expand(new) for old, new in _NAMES if (match := old.fullmatch(name))), None)
        if ours is None:
            raise ModelError(
                f"{path}: the tensor {_PREFIX}{name} is not of CLIP's vision transformer; its ResNets are in timm as "
                "resnet50_clip.openai and others"
            )
        if "*" not in ours:
            renamed[ours] = tensor
            continue
        for part, rows in zip("qkv", tensor.chunk(3), strict=True):
            renamed[ours.replace("*", part)] = rows
    return renamed


def _need(tensors: Mapping[str, Tensor], name: str, path: Path) -> Tensor:
    if name not in tensors:
        raise ModelError(f"{path}: has no tensor that becomes {name!r}; the file is incomplete")
    return tensors[name]
