"""The config of a vision tower: read from a checkpoint, checked, and reduced to what determines the network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from faceattr.data.checkpoint_files import clean_config
from faceattr.errors import ModelError
from faceattr.models.backbones.towers.kinds import CLIP_KIND, OPTIONAL_POOLER, REFUSED, TOWERS
from faceattr.models.backbones.towers.processors import read_json_object

# Settings of transformers' CLIPVisionConfig that determine the tower; the rest is metadata and is not kept.
_CLIP_KEYS = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size"),
    *("hidden_act", "layer_norm_eps", "attention_dropout"),
)
POOLER_KEY = "add_pooling_layer"
"""Argument, and setting of ours, of kinds whose pooling layer may be missing."""

# Settings by which a network is built around another one, which transformers would download.
_BORROWED = ("backbone", "backbone_config", "use_timm_backbone", "use_pretrained_backbone")


def read_tower_config(folder: Path) -> tuple[PreTrainedConfig, dict[str, Any]]:
    """Returns the config of the vision tower, and all settings of `config.json`."""
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"{folder}: expected a folder of a vision model of transformers, found no config.json in it")
    settings = clean_config(read_json_object(path), path)
    found = settings.get("model_type")
    return build_tower_config(str(found), settings, f"{path} (architectures {settings.get('architectures')})"), settings


def build_tower_config(kind: str, settings: Mapping[str, Any], where: str) -> PreTrainedConfig:
    """Builds the config of the vision tower of a checkpoint.

    Args:
        kind: `model_type` of the checkpoint.
        settings: its settings; those that are missing have transformers' defaults.
        where: the file, for messages.

    Raises:
        ModelError: the checkpoint has no vision tower, or none that can be a backbone.
    """
    if kind in REFUSED:
        raise ModelError(f"{where}: model_type {kind!r} cannot be a backbone: {REFUSED[kind]}")
    if kind not in CONFIG_MAPPING:
        raise ModelError(_describe_unknown(kind, where))
    config = CONFIG_MAPPING[kind].from_dict(dict(settings))
    config = getattr(config, "vision_config", None) or config
    kind = config.model_type
    if kind in REFUSED:
        raise ModelError(f"{where}: model_type {kind!r} cannot be a backbone: {REFUSED[kind]}")
    if type(config) not in MODEL_MAPPING or tower_class(config).main_input_name != "pixel_values":
        raise ModelError(_describe_unknown(kind, where))
    if borrowed := [key for key in _BORROWED if getattr(config, key, None)]:
        raise ModelError(f"{where}: {kind} is built around another network ({borrowed[0]}); use that one's checkpoint")
    return config


def _describe_unknown(kind: str, where: str) -> str:
    return (
        f"{where}: transformers has no vision tower for the model_type {kind!r}. Known kinds are {', '.join(TOWERS)}, "
        "the models of images and text that contain one of them, and every other vision model of transformers whose "
        "output has pooler_output"
    )


def tower_class(config: PreTrainedConfig) -> Any:
    """Returns the class of transformers that a config of a vision tower is for."""
    found = MODEL_MAPPING[type(config)]
    return found[0] if isinstance(found, tuple) else found


def create_tower(config: PreTrainedConfig, *, pooler: bool) -> Any:
    """Creates a tower with random weights; `pooler` is for kinds whose pooling layer may be missing."""
    tower = tower_class(config)
    if takes_pooler(tower):
        return tower(config, **{POOLER_KEY: pooler})
    return tower(config)


def takes_pooler(tower: Any) -> bool:
    """Whether the pooling layer of a class of towers may be missing."""
    return tower.config_class.model_type in OPTIONAL_POOLER


def describe_shape(module: Any) -> dict[str, Any]:
    """Returns the settings that determine the tower, as JSON values. CLIP's have no model_type: they came first."""
    settings = module.config.to_dict()
    shape = {key: settings[key] for key in shape_keys(module.config)}
    if module.config.model_type == CLIP_KIND:
        return shape
    pooler = {POOLER_KEY: module.pooler is not None} if takes_pooler(type(module)) else {}
    return {"model_type": module.config.model_type, **shape, **pooler}


def shape_keys(config: PreTrainedConfig) -> tuple[str, ...]:
    """Returns the settings of a kind of tower that every other kind of config does not have."""
    if config.model_type == CLIP_KIND:
        return _CLIP_KEYS
    general = PreTrainedConfig().to_dict()
    return tuple(key for key in type(config)().to_dict() if key not in general and key != "model_type")
