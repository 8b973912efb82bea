"""Small random models of every family, and images for them."""

from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPVisionConfig, CLIPVisionModel

from faceattr.attributes import Attribute, AttributeSet, DerivedAttribute
from faceattr.models.backbones.names import build_backbone
from faceattr.models.freezing import split_at
from faceattr.models.multitask import MultiAttributeModel

VISION = {
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
# Name and arguments of timm models: one per family that can be split, small, with the traits that matter.
FAMILIES = {
    "resnet": ("test_resnet", {}, 64),
    "vit": ("test_vit", {"depth": 3}, 32),
    "vit_clip": ("vit_base_patch32_clip_224.openai", {"depth": 2, "embed_dim": 32, "num_heads": 2}, 64),
    "vit_pooled": ("test_vit2", {"depth": 2}, 32),
    "vit_distilled": (
        "deit_tiny_distilled_patch16_224",
        {"depth": 2, "embed_dim": 32, "num_heads": 2},
        32,
    ),
    "vit_registers": ("vit_small_patch14_reg4_dinov2", {"depth": 2, "embed_dim": 32, "num_heads": 2}, 28),
    "vit_siglip": ("vit_base_patch16_siglip_224", {"depth": 2, "embed_dim": 32, "num_heads": 2}, 32),
    "vit_dinov3": ("vit_small_patch16_dinov3", {"depth": 2, "embed_dim": 32, "num_heads": 2}, 32),
    "vit_eva": ("eva02_tiny_patch14_224", {"depth": 2, "embed_dim": 32, "num_heads": 2}, 28),
    "convnext": ("test_convnext", {}, 32),
    "efficientnet_v2": ("efficientnetv2_s", {"channel_multiplier": 0.125, "depth_multiplier": 0.25}, 32),
    "vgg": ("vgg11_bn", {"mlp_ratio": 0.01}, 32),
    "inception": ("inception_v3", {}, 75),
}
ATTRIBUTES = AttributeSet(
    attributes=(
        Attribute(name="hat"),
        # A name that nn.Module itself uses.
        Attribute(name="clear"),
        Attribute(name="age_group", kind="multiclass", classes=("0-2", "3-9", "10-19")),
        Attribute(name="age", kind="age", classes=()),
        Attribute(name="person", kind="identity", classes=("p7", "p10", "p9", "p1")),
    ),
    derived=(DerivedAttribute(name="bare", rule="not hat and clear"),),
)


def save_clip(folder: Path, *, whole: bool = False, seed: int = 0) -> Path:
    """A CLIP checkpoint as users have it: the tower alone, or out of a whole CLIP model."""
    torch.manual_seed(seed)
    if whole:
        text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = CLIPConfig(text_config={**text, "vocab_size": 50}, vision_config=VISION, projection_dim=8)
        CLIPModel(config).save_pretrained(folder)
    else:
        CLIPVisionModel(CLIPVisionConfig(**VISION)).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def build(family: str, folder: Path, *, seed: int = 0):
    """A tiny backbone of a family; `clip` needs a folder to put a checkpoint into."""
    torch.manual_seed(seed)
    if family == "clip":
        if not (folder / "config.json").exists():
            save_clip(folder)
        return build_backbone(str(folder), pretrained=True)
    name, args, size = FAMILIES[family]
    return build_backbone(name, pretrained=False, image_size=size, args=args)


def build_model(family: str, folder: Path, attributes: AttributeSet = ATTRIBUTES, **kwargs) -> MultiAttributeModel:
    return MultiAttributeModel(build(family, folder), attributes, **kwargs)


def images_for(backbone, num: int = 2) -> torch.Tensor:
    size = backbone.preprocessing.size_px
    return torch.randn(num, 3, size, size, generator=torch.Generator().manual_seed(1))


def assert_same_outputs(found, wanted, **tolerance):
    """That a model's outputs are numbers, and the same ones.

    Up to the last bits: the kernels of some processors (AVX-512) sum in another order where a copy of a weight has
    another alignment in memory. Another weight makes a difference of many orders of magnitude more.
    """
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        # An ill-conditioned model gives NaN on one CPU and a number on another; either shows nothing.
        assert torch.isfinite(value).all(), name
        torch.testing.assert_close(found[name], value, **(tolerance or {"rtol": 1e-5, "atol": 1e-6}))


def assert_split_is_exact(model: MultiAttributeModel) -> None:
    """Checks at every boundary of a frozen model that the two parts give what the whole gives."""
    images = images_for(model.backbone)
    with torch.no_grad():
        wanted = model(images)
        for depth in range(model.backbone.num_blocks + 1):
            prefix, suffix = split_at(model, depth)
            assert_same_outputs(suffix(prefix(images)), wanted)
    assert prefix(images).shape == (2, model.backbone.num_features)
