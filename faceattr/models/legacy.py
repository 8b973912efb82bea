"""Loads published weights of other projects into a `MultiAttributeModel` with equal outputs.

The FairFace CLIP (ViT-L/14). Its names to ours, in our class order:

    vision_model.*, vision_model.vision_model.*  ->  backbone.module.*                      CLIPVisionModel
    {age,gender,race}_head.{weight,bias}         ->  heads.{age_group,gender,race}_head.*   rows reordered

Its classes were sorted as strings (0-2, 10-19, 20-29, 3-9, ...); rows are reordered to our class order.

The UTKFace ViT (ViT-B/16):

    backbone.*, vit.*                            ->  backbone.module.*                      of torchvision or timm
    {age,gender,race}_head.{0,3}.*               ->  heads.{age,gender,race_group}_head.*   layers of an MLP

Its gender head gives one logit z of Female. Ours has the classes (Male, Female) and gives the logits (0, z), so that
the softmax equals its sigmoid.
"""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from timm.data import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel

from faceattr.attributes import AttributeSet
from faceattr.config import StorageConfig
from faceattr.data.model_folders import locate_folder
from faceattr.data.sources.face_classes import FACE_ATTRIBUTES, SEED_004_CLASSES
from faceattr.errors import ModelError
from faceattr.models.backbones.from_transformers import wrap_tower
from faceattr.models.backbones.names import build_backbone
from faceattr.models.backbones.preprocessing import Preprocessing
from faceattr.models.backbones.towers.processors import read_preprocessing
from faceattr.models.heads import HeadConfig, head_configs
from faceattr.models.multitask import MultiAttributeModel
from faceattr.models.weights import load_exactly, read_state_dict

# Every published size of both families has 64 features per attention head; shapes do not tell the number of heads.
_HEAD_WIDTH = 64
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin", "*.safetensors", "*.bin", "*.pth", "*.pt")
_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")

FAIRFACE_CLIP_HEADS = {"age": "age_group", "gender": "gender", "race": "race"}
"""Heads of the FairFace CLIP -> our attributes."""

UTKFACE_VIT_HEADS = {"age": "age", "gender": "gender", "race": "race_group"}
"""Heads of the UTKFace ViT -> our attributes."""

Renames = tuple[tuple[str, str], ...]

FAIRFACE_CLIP_NAMES: Renames = (
    # transformers before 5 had the tower one level deeper inside CLIPVisionModel.
    (r"vision_model\.(?:vision_model\.)?(?!visual_projection)(.+)", r"backbone.module.\1"),
    *((rf"{theirs}_head\.(weight|bias)", rf"heads.{ours}_head.\1") for theirs, ours in FAIRFACE_CLIP_HEADS.items()),
)
_VIT_HEADS: Renames = tuple(
    (rf"{theirs}_head\.([03]\.(?:weight|bias))", rf"heads.{ours}_head.\1") for theirs, ours in UTKFACE_VIT_HEADS.items()
)
_LAYER = r"(?:backbone|vit)\.encoder\.layers\.encoder_layer_(\d+)\."
TORCHVISION_VIT_NAMES: Renames = (
    (r"(?:backbone|vit)\.class_token", "backbone.module.cls_token"),
    (r"(?:backbone|vit)\.encoder\.pos_embedding", "backbone.module.pos_embed"),
    (r"(?:backbone|vit)\.conv_proj\.(.+)", r"backbone.module.patch_embed.proj.\1"),
    (_LAYER + r"ln_([12])\.(.+)", r"backbone.module.blocks.\1.norm\2.\3"),
    (_LAYER + r"self_attention\.in_proj_(weight|bias)", r"backbone.module.blocks.\1.attn.qkv.\2"),
    (_LAYER + r"self_attention\.out_proj\.(.+)", r"backbone.module.blocks.\1.attn.proj.\2"),
    (_LAYER + r"mlp\.(?:0|linear_1)\.(.+)", r"backbone.module.blocks.\1.mlp.fc1.\2"),
    (_LAYER + r"mlp\.(?:3|linear_2)\.(.+)", r"backbone.module.blocks.\1.mlp.fc2.\2"),
    (r"(?:backbone|vit)\.encoder\.ln\.(.+)", r"backbone.module.norm.\1"),
    *_VIT_HEADS,
)
TIMM_VIT_NAMES: Renames = (
    (r"(?:backbone|vit)\.((?:cls_token|pos_embed|patch_embed|blocks|norm)\b.*)", r"backbone.module.\1"),
    *_VIT_HEADS,
)
# Old versions of transformers saved the position indices, and a ViT may still contain its ImageNet classifier.
_IGNORED = r".*\.position_ids|(?:backbone|vit)\.heads?\..+"


def load_fairface_clip(
    source: str | Path,
    *,
    revision: str | None = None,
    storage: StorageConfig | None = None,
    num_attention_heads: int | None = None,
) -> MultiAttributeModel:
    """Loads the FairFace CLIP's layout: a CLIP vision tower and linear heads age, gender and race.

    Args:
        source: a weights file, or a folder, hub id or URI with one.
        revision: branch, tag or commit, for hub ids.
        storage: how object storage is reached, where the source is a URI.
        num_attention_heads: number of attention heads of the tower; by default its width / 64, as in every CLIP.

    Returns:
        A model with the attributes age_group, gender and race of FairFace, in evaluation mode.

    Raises:
        ConfigError, ModelError: the source cannot be found, or has another layout.
    """
    path = _find_file(source, revision, storage)
    tensors = rename(read_state_dict(path), FAIRFACE_CLIP_NAMES, str(path))
    for theirs, ours in FAIRFACE_CLIP_HEADS.items():
        _reorder_classes(tensors, ours, theirs, path)
    patches = _need(tensors, "backbone.module.embeddings.patch_embedding.weight", path)
    positions = _need(tensors, "backbone.module.embeddings.position_embedding.weight", path)
    width, patch = patches.shape[0], patches.shape[-1]
    size = _side(len(positions), path) * patch
    tower = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=width,
            intermediate_size=len(_need(tensors, "backbone.module.encoder.layers.0.mlp.fc1.weight", path)),
            num_hidden_layers=_count_layers(tensors, r"backbone\.module\.encoder\.layers\.(\d+)\."),
            num_attention_heads=num_attention_heads or max(1, width // _HEAD_WIDTH),
            image_size=size,
            patch_size=patch,
        )
    )
    has_processor = any((path.parent / name).is_file() for name in _PROCESSOR_FILES)
    preprocessing = (
        read_preprocessing(path.parent, is_clip=True)
        if has_processor
        else Preprocessing(size_px=size, mean=OPENAI_CLIP_MEAN, std=OPENAI_CLIP_STD)
    )
    attributes = AttributeSet(attributes=tuple(FACE_ATTRIBUTES[name] for name in FAIRFACE_CLIP_HEADS.values()))
    name = f"hf:openai/clip-vit-{'large' if width == 1024 else 'base'}-patch{patch}"
    model = MultiAttributeModel(wrap_tower(tower, name=name, preprocessing=preprocessing), attributes)
    load_exactly(model, tensors, str(path))
    return model.eval()


def load_utkface_vit(
    source: str | Path,
    *,
    revision: str | None = None,
    storage: StorageConfig | None = None,
    num_attention_heads: int | None = None,
) -> MultiAttributeModel:
    """Loads the UTKFace ViT's layout: a ViT of torchvision or timm and MLP heads age, gender and race.

    Args:
        source: a weights file, or a folder, hub id or URI with one.
        revision: branch, tag or commit, for hub ids.
        storage: how object storage is reached, where the source is a URI.
        num_attention_heads: number of attention heads of the ViT; by default its width / 64.

    Returns:
        A model with the attributes age (years), gender and race_group, in evaluation mode; it squeezes images to the
        square, as its own code does.

    Raises:
        ConfigError, ModelError: the source cannot be found, or has another layout.
    """
    path = _find_file(source, revision, storage)
    state = read_state_dict(path)
    is_torchvision = any(".encoder_layer_" in name or name.endswith("class_token") for name in state)
    tensors = rename(state, TORCHVISION_VIT_NAMES if is_torchvision else TIMM_VIT_NAMES, str(path))
    attributes = AttributeSet(attributes=tuple(FACE_ATTRIBUTES[name] for name in UTKFACE_VIT_HEADS.values()))
    heads = head_configs("utkface_vit", attributes)
    _split_gender_logit(tensors, path)
    for name in attributes.names:
        units = len(_need(tensors, f"heads.{name}_head.0.weight", path))
        heads[name] = HeadConfig.from_dict({**heads[name].to_dict(), "hidden": (units,)})
    patches = _need(tensors, "backbone.module.patch_embed.proj.weight", path)
    positions = _need(tensors, "backbone.module.pos_embed", path)
    width, patch = patches.shape[0], patches.shape[-1]
    mlp = _need(tensors, "backbone.module.blocks.0.mlp.fc1.weight", path)
    args = {
        "patch_size": patch,
        "embed_dim": width,
        "depth": _count_layers(tensors, r"backbone\.module\.blocks\.(\d+)\."),
        "num_heads": num_attention_heads or max(1, width // _HEAD_WIDTH),
        "mlp_ratio": len(mlp) / width,
    }
    size = _side(positions.shape[1], path) * patch
    backbone = build_backbone("vit_base_patch16_224", pretrained=False, image_size=size, args=args)
    half = (0.5, 0.5, 0.5)
    backbone.preprocessing = Preprocessing(
        size_px=size, mean=half, std=half, interpolation="bilinear", crop_mode="squash"
    )
    model = MultiAttributeModel(backbone, attributes, heads=heads)
    load_exactly(model, tensors, str(path))
    return model.eval()


def rename(tensors: Mapping[str, Tensor], renames: Renames, where: str) -> dict[str, Tensor]:
    """Renames the tensors of a state dict to our names.

    Raises:
        ModelError: no pattern matches a name, or two names map to the same name.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if re.fullmatch(_IGNORED, name):
            continue
        ours = next((match.expand(new) for old, new in renames if (match := re.fullmatch(old, name))), None)
        if ours is None or ours in renamed:
            table = "; ".join(f"{old} -> {new}" for old, new in renames)
            problem = "is not of this layout" if ours is None else f"becomes {ours!r}, as another one does"
            raise ModelError(f"{where}: the tensor {name!r} {problem}. Known names: {table}")
        renamed[ours] = tensor
    return renamed


def _find_file(source: str | Path, revision: str | None, storage: StorageConfig | None) -> Path:
    if Path(source).expanduser().is_file():
        return Path(source).expanduser()
    patterns = (*_WEIGHT_FILES, *_PROCESSOR_FILES)
    folder = locate_folder(source, patterns=patterns, revision=revision, storage=storage)
    for pattern in _WEIGHT_FILES:
        found = sorted(folder.glob(pattern))
        if len(found) > 1:
            raise ModelError(f"{folder}: found {', '.join(file.name for file in found)}; name the file to load")
        if found:
            return found[0]
    raise ModelError(f"{folder}: found no weights; expected one of {', '.join(_WEIGHT_FILES)}")


def _reorder_classes(tensors: dict[str, Tensor], ours: str, theirs: str, path: Path) -> None:
    """Moves a head's rows from the FairFace CLIP's class order to ours."""
    source, target = SEED_004_CLASSES[ours], FACE_ATTRIBUTES[ours].classes
    rows = torch.tensor([source.index(name) for name in target])
    for part in ("weight", "bias"):
        tensor = _need(tensors, f"heads.{ours}_head.{part}", path)
        if len(tensor) != len(source):
            raise ModelError(
                f"{path}: {theirs}_head has {len(tensor)} classes; expected the {len(source)} of FairFace, sorted as "
                f"strings: {', '.join(source)}"
            )
        tensors[f"heads.{ours}_head.{part}"] = tensor[rows]


def _split_gender_logit(tensors: dict[str, Tensor], path: Path) -> None:
    """Replaces one logit z of Female by the logits (0, z) of Male and Female."""
    for part in ("weight", "bias"):
        name = f"heads.gender_head.3.{part}"
        tensor = _need(tensors, name, path)
        if len(tensor) != 1:
            raise ModelError(f"{path}: gender_head has {len(tensor)} outputs; expected one logit, of Female")
        tensors[name] = torch.cat([torch.zeros_like(tensor), tensor])


def _need(tensors: Mapping[str, Tensor], name: str, path: Path) -> Tensor:
    if name not in tensors:
        raise ModelError(f"{path}: has no tensor that becomes {name!r}; the file is incomplete or of another layout")
    return tensors[name]


def _count_layers(tensors: Mapping[str, Tensor], pattern: str) -> int:
    return 1 + max(int(match.group(1)) for name in tensors if (match := re.match(pattern, name)))


def _side(num_positions: int, path: Path) -> int:
    """Returns the number of patches along one side, given the number of positions with the class token."""
    side = math.isqrt(num_positions - 1)
    if side * side != num_positions - 1:
        raise ModelError(f"{path}: {num_positions} positions are not a class token and a square of patches")
    return side


LEGACY_LOADERS: dict[str, Callable[..., MultiAttributeModel]] = {
    "fairface_clip": load_fairface_clip,
    "utkface_vit": load_utkface_vit,
}
"""Layout name -> loader."""
