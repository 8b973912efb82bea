"""Small random checkpoints of every kind of vision tower of transformers, on disk as a user would have them."""

from pathlib import Path
from typing import Any

import torch
import transformers as hf

SHAPE = {
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
DINOV2 = {key: value for key, value in SHAPE.items() if key != "intermediate_size"} | {"image_size": 48}
STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}
TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50}
SQUARE = {"size": {"height": 32, "width": 32}}
CENTRE = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}

# Name -> class of the checkpoint, its config, its image processor. Those that can be split at every block come first.
CHAINS: dict[str, tuple[Any, Any, Any]] = {
    "siglip": (hf.SiglipVisionModel, hf.SiglipVisionConfig(**SHAPE), hf.SiglipImageProcessor(**SQUARE)),
    "siglip_with_text": (
        hf.SiglipModel,
        hf.SiglipConfig(text_config={**TEXT, "projection_size": 24}, vision_config=SHAPE),
        hf.SiglipImageProcessor(**SQUARE, resample=2),
    ),
    "dinov2": (hf.Dinov2Model, hf.Dinov2Config(**DINOV2), hf.BitImageProcessor(**CENTRE)),
    "dinov2_classifier": (hf.Dinov2ForImageClassification, hf.Dinov2Config(**DINOV2), hf.BitImageProcessor(**CENTRE)),
    "dinov2_with_registers": (
        hf.Dinov2WithRegistersModel,
        hf.Dinov2WithRegistersConfig(**DINOV2, num_register_tokens=2),
        hf.BitImageProcessor(**CENTRE),
    ),
    "dinov3_vit": (
        hf.DINOv3ViTModel,
        # As published: in training the rotary positions are scaled at random.
        hf.DINOv3ViTConfig(**SHAPE, num_register_tokens=2, pos_embed_rescale=2.0, layerscale_value=1.0),
        hf.DINOv3ViTImageProcessor(**SQUARE),
    ),
    "dinov3_convnext": (
        hf.DINOv3ConvNextModel,
        hf.DINOv3ConvNextConfig(**STAGES, layer_scale_init_value=1.0),
        hf.DINOv3ViTImageProcessor(**SQUARE),
    ),
    "convnext": (
        hf.ConvNextModel,
        hf.ConvNextConfig(**STAGES, layer_scale_init_value=1.0),
        hf.ConvNextImageProcessor(size={"shortest_edge": 32}),
    ),
    "convnextv2": (
        hf.ConvNextV2Model,
        hf.ConvNextV2Config(**STAGES),
        hf.ConvNextImageProcessor(size={"shortest_edge": 384}),
    ),
    "efficientnet": (
        hf.EfficientNetModel,
        hf.EfficientNetConfig(width_coefficient=0.25, depth_coefficient=0.3, hidden_dim=320, image_size=32),
        hf.EfficientNetImageProcessor(**SQUARE, resample=0),
    ),
    "vit": (hf.ViTModel, hf.ViTConfig(**SHAPE), hf.ViTImageProcessor(**SQUARE)),
    "vit_classifier": (hf.ViTForImageClassification, hf.ViTConfig(**SHAPE), hf.ViTImageProcessor(**SQUARE)),
    "deit": (
        hf.DeiTModel,
        hf.DeiTConfig(**SHAPE),
        hf.DeiTImageProcessor(size={"height": 40, "width": 40}, crop_size={"height": 32, "width": 32}),
    ),
}
WHOLE: dict[str, tuple[Any, Any, Any]] = {
    "resnet": (
        hf.ResNetModel,
        hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="basic"),
        hf.ConvNextImageProcessor(size={"shortest_edge": 32}),
    ),
    "swin": (
        hf.SwinModel,
        hf.SwinConfig(image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4),
        hf.ViTImageProcessor(**SQUARE),
    ),
    "beit": (hf.BeitModel, hf.BeitConfig(**SHAPE), hf.BeitImageProcessor(**SQUARE)),
}


def save_tower(kind: str, folder: Path) -> Path:
    """Writes a checkpoint; every tensor is random, so that none that is lost or mixed up goes unnoticed."""
    model_class, config, processor = (CHAINS | WHOLE)[kind]
    torch.manual_seed(0)
    model = model_class(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.5 if kind == "efficientnet" else 0.1))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def reference_features(kind: str, folder: Path, images: torch.Tensor) -> torch.Tensor:
    """The features as transformers computes them from the folder."""
    model_class, *_ = (CHAINS | WHOLE)[kind]
    model = model_class.from_pretrained(folder).eval()
    tower = {"siglip_with_text": "vision_model", "dinov2_classifier": "dinov2", "vit_classifier": "vit"}.get(kind)
    with torch.no_grad():
        found = (model if tower is None else getattr(model, tower))(pixel_values=images)
    if kind == "vit_classifier":
        return found.last_hidden_state[:, 0]
    return found.pooler_output.flatten(1)
