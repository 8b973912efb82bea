"""The sizes of an image-text-to-text model that a driver needs, read from config.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceattr.errors import ModelError

# Defaults of the configs in transformers 5, for what a config.json leaves out.
_SIGLIP = {"hidden_size": 1152, "intermediate_size": 3072, "num_hidden_layers": 12, "patch_size": 32}
_INTERNVIT = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "patch_size": 14}
_LLAMA = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
_QWEN = {"hidden_size": 8192, "intermediate_size": 29568, "num_hidden_layers": 80, "num_attention_heads": 64}
_DEFAULTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "smolvlm": (_SIGLIP, _LLAMA | {"vocab_size": 32000}),
    "idefics3": (_SIGLIP, _LLAMA | {"vocab_size": 32000}),
    "internvl": (_INTERNVIT, _LLAMA | {"intermediate_size": 22016, "vocab_size": 151936}),
    "qwen2_vl": (
        {"embed_dim": 1280, "mlp_ratio": 4, "depth": 32, "patch_size": 14},
        _QWEN | {"num_key_value_heads": 8, "vocab_size": 152064},
    ),
    "qwen2_5_vl": (
        {"hidden_size": 3584, "intermediate_size": 3420, "depth": 32, "patch_size": 14},
        _QWEN | {"num_key_value_heads": 8, "vocab_size": 152064},
    ),
    "qwen3_vl": (
        {"hidden_size": 1152, "intermediate_size": 4304, "depth": 27, "patch_size": 16},
        _LLAMA | {"intermediate_size": 22016, "head_dim": 128, "vocab_size": 151936},
    ),
}
# Qwen2.5-VL's feed-forward layers in the tower are gated: three matrices in place of two.
_GATED_TOWERS = {"qwen2_5_vl"}


@dataclass(frozen=True, kw_only=True)
class DecoderSizes:
    """Sizes of the vision tower and of the decoder.

    Attributes:
        image_px: side of the images that the tower takes; None if it takes any, or config.json does not say.
        patch_px: side of a patch.
        frames: how often a patch is projected: twice by Qwen-VL, which reads an image as a film of two frames.
        tower_width: of the tower's states.
        tower_hidden: width inside its feed-forward layers.
        tower_matrices: matrices of a feed-forward layer in the tower.
        tower_layers: number of its layers.
        merged: patches, along each side, that become one token of the decoder.
        width: of the decoder's states.
        hidden: width inside its feed-forward layers, which have three matrices.
        layers: number of its layers.
        query_width: all heads of queries together.
        key_width: all heads of keys together.
        vocabulary: number of tokens.
    """

    image_px: int | None
    patch_px: int
    frames: int
    tower_width: int
    tower_hidden: int
    tower_matrices: int
    tower_layers: int
    merged: int
    width: int
    hidden: int
    layers: int
    query_width: int
    key_width: int
    vocabulary: int


def read_decoder_sizes(config: Mapping[str, Any], where: Path) -> DecoderSizes:
    """Reads a config.json of one of the families of decoders.

    Raises:
        ModelError: a size is no number.
    """
    family = str(config["model_type"])
    default_vision, default_text = _DEFAULTS[family]
    vision = default_vision | dict(config.get("vision_config") or {})
    # Published Qwen-VL configs have the decoder's sizes beside the vision tower's section.
    beside = {name: config[name] for name in (*default_text, "num_key_value_heads", "head_dim") if name in config}
    text = default_text | beside | dict(config.get("text_config") or {})
    is_qwen2 = family == "qwen2_vl"
    try:
        heads = int(text["num_attention_heads"])
        head_width = int(text.get("head_dim") or int(text["hidden_size"]) // heads)
        tower_width = int(vision["embed_dim" if is_qwen2 else "hidden_size"])
        patch, image = vision["patch_size"], vision.get("image_size")
        return DecoderSizes(
            image_px=None if image is None or "depth" in vision else _side(image),
            patch_px=_side(patch),
            frames=int(vision.get("temporal_patch_size", 2 if "depth" in vision else 1)),
            tower_width=tower_width,
            tower_hidden=tower_width * int(vision["mlp_ratio"]) if is_qwen2 else int(vision["intermediate_size"]),
            tower_matrices=3 if family in _GATED_TOWERS else 2,
            tower_layers=int(vision["depth" if "depth" in vision else "num_hidden_layers"]),
            merged=_read_merged(config, vision),
            width=int(text["hidden_size"]),
            hidden=int(text["intermediate_size"]),
            layers=int(text["num_hidden_layers"]),
            query_width=heads * head_width,
            key_width=int(text.get("num_key_value_heads") or heads) * head_width,
            vocabulary=int(text["vocab_size"]),
        )
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise ModelError(f"{where}: expected positive numbers for the sizes of the model: {error}") from error


def _side(value: Any) -> int:
    return int(value[0] if isinstance(value, list | tuple) else value)


def _read_merged(config: Mapping[str, Any], vision: Mapping[str, Any]) -> int:
    if "downsample_ratio" in config:
        return round(1 / float(config["downsample_ratio"]))
    return int(config.get("scale_factor") or vision.get("spatial_merge_size") or 2)
