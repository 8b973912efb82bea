"""Backbones from transformers: CLIP's vision tower, from a hub id or a folder, also from a complete CLIP model."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPVisionConfig, CLIPVisionModel
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from faceattr.config import StorageConfig
from faceattr.data.checkpoint_files import WEIGHT_PATTERNS, clean_config, find_weight_files
from faceattr.data.model_folders import locate_folder
from faceattr.errors import ConfigError, ModelError
from faceattr.models.backbones.blocks import Backbone, BackboneConfig, Block
from faceattr.models.backbones.preprocessing import Interpolation, Preprocessing

_CONFIG_PATTERNS = ("config.json", "preprocessor_config.json", "processor_config.json")
# Classes named in the configs of a converted checkpoint.
_CLASSES = ("CLIPVisionModel", "CLIPImageProcessor")
# Tensors of a complete CLIP model that are not in the vision tower.
_TEXT = ("text_model.", "text_projection.", "visual_projection.", "logit_scale")
# PIL's resampling codes, as image processors store them.
_RESAMPLING: dict[int, Interpolation] = {0: "nearest", 2: "bilinear", 3: "bicubic"}
# Settings of transformers' CLIPVisionConfig that determine the tower; the rest is metadata and is not kept.
_CONFIG_KEYS = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size"),
    *("hidden_act", "layer_norm_eps", "attention_dropout"),
)


class ClipBackbone(Backbone):
    """The vision tower of CLIP; its features are the normalised class token. See `Backbone`."""

    def run_step(self, step: Any, x: Tensor) -> Tensor:
        """Runs one step of a block; an encoder layer also takes a mask, which images do not have."""
        return step(x, None) if isinstance(step, CLIPEncoderLayer) else step(x)

    def pool(self, x: Tensor) -> Tensor:
        """Returns the normalised class token: `pooler_output` of transformers."""
        return self.module.post_layernorm(x[:, 0, :])

    def no_weight_decay(self) -> set[str]:
        """Returns the embeddings, as timm does for its own CLIP towers."""
        return {"embeddings.class_embedding", "embeddings.position_embedding.weight"}


def build_clip_backbone(
    source: str, *, pretrained: bool, image_size: int | None, name: str, storage: StorageConfig | None = None
) -> ClipBackbone:
    """Builds the vision tower of a CLIP model in transformers' layout.

    Args:
        source: local folder, hub id or URI.
        pretrained: False reads the architecture from `config.json` and leaves the weights random.
        image_size: side in px; if it differs from the checkpoint's, the position embeddings are interpolated once.
        name: name given by the user, for messages and to be stored.
        storage: how object storage is reached, where the source is a URI.

    Raises:
        ConfigError, ModelError: it cannot be found, is not a CLIP model, is incomplete, or cannot take this size.
    """
    patterns = (*_CONFIG_PATTERNS, *WEIGHT_PATTERNS) if pretrained else _CONFIG_PATTERNS
    folder = locate_folder(source, patterns=patterns, storage=storage)
    vision = _read_config(folder)
    preprocessing = read_clip_preprocessing(folder)
    module = _load_tower(folder, vision) if pretrained else CLIPVisionModel(vision)
    if image_size is not None and image_size != vision.image_size:
        _resize_positions(module, image_size, name)
        preprocessing = replace(preprocessing, size_px=image_size)
    if preprocessing.size_px != module.config.image_size:
        raise ModelError(
            f"{folder}: the model takes images of {module.config.image_size} px, its image processor makes "
            f"{preprocessing.size_px} px; correct crop_size in preprocessor_config.json"
        )
    return wrap_clip_tower(module, name=name, preprocessing=preprocessing)


def restore_clip_backbone(config: BackboneConfig, preprocessing: Preprocessing) -> ClipBackbone:
    """Builds the tower that `config` describes with random weights, without files or network."""
    if config.hf_config is None:
        raise ModelError(f"backbone {config.name!r}: its config has no hf_config")
    # A model's config may come from an untrusted source: only the tower's shape is read from it.
    shape = {key: value for key, value in config.hf_config.items() if key in _CONFIG_KEYS}
    module = CLIPVisionModel(CLIPVisionConfig(**shape))
    return wrap_clip_tower(module, name=config.name, preprocessing=preprocessing)


def wrap_clip_tower(module: Any, *, name: str, preprocessing: Preprocessing) -> ClipBackbone:
    """Wraps a `CLIPVisionModel` as a backbone."""
    stem = ("embeddings", "pre_layrnorm")
    layers = [f"encoder.layers.{i}" for i in range(len(module.encoder.layers))]
    owns: list[tuple[str, ...]] = [(layer,) for layer in layers]
    owns[-1] = (layers[-1], "post_layernorm")
    settings = module.config.to_dict()
    return ClipBackbone(
        module,
        config=BackboneConfig(
            name=name,
            image_size=module.config.image_size,
            hf_config={key: settings[key] for key in _CONFIG_KEYS},
        ),
        blocks=(
            Block("stem", stem, stem),
            *(Block(layer, (layer,), own) for layer, own in zip(layers, owns, strict=True)),
        ),
        num_features=module.config.hidden_size,
        preprocessing=preprocessing,
    )


def read_clip_preprocessing(folder: Path) -> Preprocessing:
    """Reads the settings of the image processor that is saved with a CLIP model.

    Raises:
        ModelError: there is none, or it does something other than resize, central crop and normalise.
    """
    path = next((folder / name for name in _CONFIG_PATTERNS[1:] if (folder / name).is_file()), None)
    if path is None:
        raise ModelError(
            f"{folder}: found no preprocessor_config.json, which says how images are resized and normalised; save it "
            "there with `CLIPImageProcessor(...).save_pretrained(folder)`"
        )
    settings = _read_json(path)
    settings = settings.get("image_processor", settings)
    try:
        size, crop = _side(settings["size"]), _side(settings["crop_size"])
        resample = _RESAMPLING[settings["resample"]]
        mean, std = tuple(settings["image_mean"]), tuple(settings["image_std"])
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"{path}: expected size, crop_size, resample, image_mean and image_std of a CLIPImageProcessor with a "
            f"nearest, bilinear or bicubic resize; {type(error).__name__} at {error}"
        ) from error
    for switch in ("do_resize", "do_center_crop", "do_rescale", "do_normalize"):
        if settings.get(switch) is False:
            raise ModelError(f"{path}: {switch} is false; only the usual CLIP steps are reproduced here")
    return Preprocessing(size_px=crop, mean=mean, std=std, interpolation=resample, crop_fraction=crop / size)


def _side(size: Any) -> int:
    """Returns the side in the forms that image processors save: 224, {shortest_edge}, {height, width}."""
    if isinstance(size, Mapping):
        if "shortest_edge" in size:
            return int(size["shortest_edge"])
        if size["height"] != size["width"]:
            raise KeyError(f"a size that is not square: {dict(size)}")
        return int(size["height"])
    return int(size)


def _read_config(folder: Path) -> CLIPVisionConfig:
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"{folder}: expected a CLIP model's folder, found no config.json in it")
    settings = clean_config(_read_json(path), path)
    match settings.get("model_type"):
        case "clip_vision_model":
            return CLIPVisionConfig.from_dict(settings)
        case "clip":
            return CLIPConfig.from_dict(settings).vision_config
        case found:
            remedy = "; load it with MultiAttributeModel.from_pretrained" if found == "faceattr" else ""
            raise ModelError(
                f"{path}: expected model_type clip or clip_vision_model, found {found!r} "
                f"(architectures {settings.get('architectures')}){remedy}"
            )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def _load_tower(folder: Path, config: CLIPVisionConfig) -> Any:
    # Config and tensors are read here, because given a folder transformers would load any file that its configs name.
    try:
        tensors = {
            name: tensor
            for path in find_weight_files(folder, classes=_CLASSES)
            for name, tensor in load_file(path).items()
            if not name.startswith(_TEXT)
        }
        model, info = CLIPVisionModel.from_pretrained(
            None, config=config, state_dict=tensors, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder}: the weights cannot be loaded: {error}") from error
    # transformers fills missing tensors with random numbers and only warns.
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"{folder}: {len(missing)} tensors of the vision tower are not in the weights, {missing[0]!r} for one; "
            "the checkpoint is incomplete or of another architecture"
        )
    return model


def _resize_positions(module: Any, image_size: int, name: str) -> None:
    """Interpolates the position embeddings as transformers does on each call with `interpolate_pos_encoding`."""
    embeddings = module.embeddings
    patch = module.config.patch_size
    if image_size % patch:
        raise ConfigError(f"backbone {name!r}: image_size {image_size} is not a multiple of its patch of {patch} px")
    num_patches = (image_size // patch) ** 2
    with torch.no_grad():
        tokens = embeddings.class_embedding.expand(1, num_patches + 1, -1)
        table = embeddings.interpolate_pos_encoding(tokens, image_size, image_size)[0]
    embeddings.position_embedding = nn.Embedding.from_pretrained(table.clone(), freeze=False)
    embeddings.position_ids = torch.arange(len(table)).expand((1, -1))
    embeddings.num_patches, embeddings.num_positions = num_patches, num_patches + 1
    embeddings.image_size = module.config.image_size = image_size
