"""What the config.json of the models in `faceattr/planning/models.yaml` say; what is not there has the defaults.

Those of CLIP and SigLIP say what shapes the vision tower, which is all that an image costs.
"""

from typing import Any

_LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
_LARGE_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
_SO400M = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
CONTRASTIVE: dict[str, dict[str, Any]] = {
    "openai/clip-vit-base-patch32": {},
    "openai/clip-vit-base-patch16": {"vision_config": {"patch_size": 16}},
    "openai/clip-vit-large-patch14": {
        "vision_config": _LARGE | {"patch_size": 14},
        "text_config": _LARGE_TEXT,
        "projection_dim": 768,
    },
    "google/siglip-base-patch16-224": {},
    "google/siglip2-base-patch16-224": {"text_config": {"vocab_size": 256_000}},
    "google/siglip2-so400m-patch14-384": {
        "vision_config": _SO400M | {"patch_size": 14, "image_size": 384},
        "text_config": _SO400M | {"vocab_size": 256_000, "projection_size": 1152},
    },
}
_SMOL_TOWER = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "patch_size": 16,
    "image_size": 512,
}


def _decoder(
    width: int, hidden: int, layers: int, heads: int, keys: int, vocabulary: int, **more: Any
) -> dict[str, Any]:
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    values = (width, hidden, layers, heads, keys)
    return dict(zip(names, values, strict=True)) | {"vocab_size": vocabulary} | more


def _rope(section: list[int], theta: float) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta, "mrope_section": section}}


DECODERS: dict[str, dict[str, Any]] = {
    "HuggingFaceTB/SmolVLM-256M-Instruct": {
        "scale_factor": 4,
        "vision_config": _SMOL_TOWER,
        "text_config": _decoder(576, 1536, 30, 9, 3, 49280),
    },
    "HuggingFaceTB/SmolVLM2-500M-Video-Instruct": {
        "scale_factor": 4,
        "vision_config": _SMOL_TOWER,
        "text_config": _decoder(960, 2560, 32, 15, 5, 49280),
    },
    "OpenGVLab/InternVL3-1B-hf": {
        "downsample_ratio": 0.5,
        "vision_config": {"image_size": [448, 448]},
        "text_config": _decoder(896, 4864, 24, 14, 2, 151674),
    },
    "Qwen/Qwen2-VL-2B-Instruct": {
        "vision_config": {"hidden_size": 1536},
        "text_config": _decoder(1536, 8960, 28, 12, 2, 151936, **_rope([16, 24, 24], 1e6)),
    },
    "Qwen/Qwen2.5-VL-3B-Instruct": {
        "vision_config": {"hidden_size": 1280, "out_hidden_size": 2048},
        "text_config": _decoder(2048, 11008, 36, 16, 2, 151936, **_rope([16, 24, 24], 1e6)),
    },
    "Qwen/Qwen3-VL-2B-Instruct": {
        "vision_config": {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "depth": 24,
            "out_hidden_size": 2048,
            "deepstack_visual_indexes": [5, 11, 17],
        },
        "text_config": _decoder(2048, 6144, 28, 16, 8, 151936, head_dim=128, **_rope([24, 20, 20], 5e6)),
    },
}
