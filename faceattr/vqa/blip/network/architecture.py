"""The sizes of a BLIP VQA model, read from config.json, and the names and shapes of its tensors.

A checkpoint's files are transformers' own, so the names of tensors, and the values of keys that config.json leaves out,
are as in transformers 5.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceattr.errors import ModelError

_VISION_DEFAULTS: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 384,
    "patch_size": 16,
    "layer_norm_eps": 1e-5,
    "hidden_act": "gelu",
}
_TEXT_DEFAULTS: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "vocab_size": 30_524,
    "max_position_embeddings": 512,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "bos_token_id": 30_522,
    "sep_token_id": 102,
}
_ACTIVATION = "gelu"


@dataclass(frozen=True, kw_only=True)
class TowerSizes:
    """Sizes of a transformer.

    Attributes:
        width: of its states.
        hidden: width inside the feed-forward layers.
        layers: number of layers.
        heads: attention heads; they divide the width.
        eps: of the layer norms.
    """

    width: int
    hidden: int
    layers: int
    heads: int
    eps: float


@dataclass(frozen=True, kw_only=True)
class BlipArchitecture:
    """Sizes of a BLIP VQA model; question encoder and answer decoder have the same.

    Attributes:
        vision: the vision tower.
        text: the question encoder, and the answer decoder.
        image_px: side of the square images.
        patch_px: side of a patch.
        vocabulary: number of token ids.
        max_positions: number of position embeddings of the text models.
        dec_token_id: [DEC], from which the decoder starts.
        sep_token_id: [SEP], which ends an answer.
    """

    vision: TowerSizes
    text: TowerSizes
    image_px: int
    patch_px: int
    vocabulary: int
    max_positions: int
    dec_token_id: int
    sep_token_id: int


def read_architecture(config: Mapping[str, Any], where: Path) -> BlipArchitecture:
    """Reads a config.json for the packed engine.

    Args:
        config: its content.
        where: the file, for messages.

    Raises:
        ModelError: a value is missing, is of another type, or is not supported.
    """
    vision, text = _read_sections(config)
    for name, section in (("vision_config", vision), ("text_config", text)):
        if section["hidden_act"] != _ACTIVATION:
            raise ModelError(
                f"{where}: {name}.hidden_act is {section['hidden_act']!r}, the packed engine computes {_ACTIVATION!r} "
                "only; use `--engine hf`"
            )
    return read_sizes(config, where)


def read_sizes(config: Mapping[str, Any], where: Path) -> BlipArchitecture:
    """Reads the sizes in a config.json, also of a model that the packed engine does not support.

    Raises:
        ModelError: a value is missing or of another type.
    """
    vision, text = _read_sections(config)
    try:
        architecture = BlipArchitecture(
            vision=_read_tower(vision),
            text=_read_tower(text),
            image_px=int(vision["image_size"]),
            patch_px=int(vision["patch_size"]),
            vocabulary=int(text["vocab_size"]),
            max_positions=int(text["max_position_embeddings"]),
            dec_token_id=int(text["bos_token_id"]),
            sep_token_id=int(text["sep_token_id"]),
        )
    except (TypeError, ValueError) as error:
        raise ModelError(f"{where}: expected numbers for the sizes of the model: {error}") from error
    for name, tower in (("vision_config", architecture.vision), ("text_config", architecture.text)):
        if tower.heads < 1 or tower.width % tower.heads:
            raise ModelError(f"{where}: {name}: {tower.heads} attention heads do not divide a width of {tower.width}")
    return architecture


def _read_sections(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    vision = _VISION_DEFAULTS | dict(config.get("vision_config") or {})
    return vision, _TEXT_DEFAULTS | dict(config.get("text_config") or {})


def _read_tower(section: Mapping[str, Any]) -> TowerSizes:
    return TowerSizes(
        width=int(section["hidden_size"]),
        hidden=int(section["intermediate_size"]),
        layers=int(section["num_hidden_layers"]),
        heads=int(section["num_attention_heads"]),
        eps=float(section["layer_norm_eps"]),
    )


Shapes = dict[str, tuple[int, ...]]


def expected_tensors(architecture: BlipArchitecture) -> Shapes:
    """Returns the name and shape of every tensor of the model."""
    vision, text = architecture.vision, architecture.text
    patches = (architecture.image_px // architecture.patch_px) ** 2
    shapes: Shapes = {
        "vision_model.embeddings.class_embedding": (1, 1, vision.width),
        "vision_model.embeddings.position_embedding": (1, 1 + patches, vision.width),
        "vision_model.embeddings.patch_embedding.weight": (
            vision.width,
            3,
            architecture.patch_px,
            architecture.patch_px,
        ),
        "vision_model.embeddings.patch_embedding.bias": (vision.width,),
        **_norm("vision_model.post_layernorm", vision.width),
    }
    for index in range(vision.layers):
        shapes |= _vision_layer(f"vision_model.encoder.layers.{index}", vision)
    for stack in ("text_encoder", "text_decoder.bert"):
        shapes |= {
            f"{stack}.embeddings.word_embeddings.weight": (architecture.vocabulary, text.width),
            f"{stack}.embeddings.position_embeddings.weight": (architecture.max_positions, text.width),
            **_norm(f"{stack}.embeddings.LayerNorm", text.width),
        }
        for index in range(text.layers):
            shapes |= _text_layer(f"{stack}.encoder.layer.{index}", text, source_width=vision.width)
    head = "text_decoder.cls.predictions"
    return shapes | {
        **_linear(f"{head}.transform.dense", text.width, text.width),
        **_norm(f"{head}.transform.LayerNorm", text.width),
        **_linear(f"{head}.decoder", architecture.vocabulary, text.width),
    }


def _vision_layer(name: str, sizes: TowerSizes) -> Shapes:
    return {
        **_norm(f"{name}.layer_norm1", sizes.width),
        **_linear(f"{name}.self_attn.qkv", 3 * sizes.width, sizes.width),
        **_linear(f"{name}.self_attn.projection", sizes.width, sizes.width),
        **_norm(f"{name}.layer_norm2", sizes.width),
        **_linear(f"{name}.mlp.fc1", sizes.hidden, sizes.width),
        **_linear(f"{name}.mlp.fc2", sizes.width, sizes.hidden),
    }


def _text_layer(name: str, sizes: TowerSizes, *, source_width: int) -> Shapes:
    shapes: Shapes = {}
    for attention, width in (("attention", sizes.width), ("crossattention", source_width)):
        shapes |= {
            **_linear(f"{name}.{attention}.self.query", sizes.width, sizes.width),
            **_linear(f"{name}.{attention}.self.key", sizes.width, width),
            **_linear(f"{name}.{attention}.self.value", sizes.width, width),
            **_linear(f"{name}.{attention}.output.dense", sizes.width, sizes.width),
            **_norm(f"{name}.{attention}.output.LayerNorm", sizes.width),
        }
    return shapes | {
        **_linear(f"{name}.intermediate.dense", sizes.hidden, sizes.width),
        **_linear(f"{name}.output.dense", sizes.width, sizes.hidden),
        **_norm(f"{name}.output.LayerNorm", sizes.width),
    }


def _linear(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
