"""Backbones from transformers: the vision tower of a checkpoint, from a hub id or a folder.

The checkpoint may be the tower alone, a classifier on it, or a model of images and text. `towers/kinds.py` says which
kinds there are, `towers/processors.py` how images are prepared, `towers/openai_clip.py` reads CLIP weights in OpenAI's
layout.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.modeling_layers import GradientCheckpointingLayer

from faceattr.config import StorageConfig
from faceattr.data.checkpoint_files import WEIGHT_PATTERNS, find_weight_files
from faceattr.data.model_folders import locate_folder
from faceattr.errors import ConfigError, ModelError
from faceattr.models.backbones.blocks import Backbone, BackboneConfig, Block
from faceattr.models.backbones.chains import chain_blocks
from faceattr.models.backbones.preprocessing import Preprocessing
from faceattr.models.backbones.towers.configs import (
    POOLER_KEY,
    build_tower_config,
    create_tower,
    describe_shape,
    read_tower_config,
    shape_keys,
    takes_pooler,
    tower_class,
)
from faceattr.models.backbones.towers.kinds import CLIP_KIND, TOWERS, Tower
from faceattr.models.backbones.towers.openai_clip import WEIGHT_FILES, build_openai_tower, find_openai_weights
from faceattr.models.backbones.towers.processors import PROCESSOR_FILES, read_preprocessing

_CONFIG_PATTERNS = ("config.json", *PROCESSOR_FILES)
# Tensors of a complete model that are not in the vision tower.
_OTHERS = ("text_model.", "text_projection.", "visual_projection.", "logit_scale", "logit_bias", "classifier.")
# Settings with the number of pooled features, or with that of each stage.
_WIDTHS = ("hidden_dim", "hidden_sizes", "hidden_size")


class TowerBackbone(Backbone):
    """The vision tower of a checkpoint of transformers; its features are the pooled output that it defines.

    Attributes:
        tower: how it runs its layers; None for a kind that only runs as a whole.
    """

    tower: Tower | None = None

    def step_context(self, x: Tensor) -> dict[str, Any]:
        """Returns the rotary positions of an image, if the layers take them; DINOv3 varies them in training."""
        if self.tower is None or not self.tower.rotary:
            return {}
        size = self.config.image_size
        return {"position_embeddings": getattr(self.module, self.tower.rotary)(x.new_empty(1, 3, size, size))}

    def run_step(self, step: Any, x: Tensor, context: dict[str, Any]) -> Tensor:
        """Runs one step of a block; a transformer's layer also takes a mask, which images do not have."""
        return step(x, None, **context) if isinstance(step, GradientCheckpointingLayer) else step(x)

    def run_whole(self, x: Tensor) -> Tensor:
        """Returns transformers' `pooler_output`, [n, num_features]."""
        return _pooled(self.module, x)

    def pool(self, x: Tensor) -> Tensor:
        """Returns what transformers' `pooler_output` is."""
        assert self.tower is not None
        return self.tower.pool(self.module, x)

    def no_weight_decay(self) -> set[str]:
        """Returns class, register and distillation tokens and position embeddings, as timm does for its towers."""
        parameters = self.module.named_parameters()
        return {name for name, _ in parameters if "position_embedding" in name or name.endswith(_EMBEDDINGS)}


_EMBEDDINGS = ("class_embedding", "cls_token", "register_tokens", "distillation_token", "probe")


def build_tower_backbone(
    source: str,
    *,
    pretrained: bool,
    image_size: int | None,
    name: str,
    args: Mapping[str, Any],
    storage: StorageConfig | None = None,
) -> TowerBackbone:
    """Builds the vision tower of a checkpoint in transformers' layout, or of CLIP weights in OpenAI's.

    Args:
        source: local folder, hub id or URI; or a local file of CLIP weights.
        pretrained: False reads the architecture from `config.json` and leaves the weights random.
        image_size: side in px; a table of position embeddings for another size is interpolated once.
        name: name given by the user, for messages and to be stored.
        args: further arguments, for CLIP weights alone; see `build_openai_tower`.
        storage: how object storage is reached, where the source is a URI.

    Raises:
        ConfigError, ModelError: it cannot be found, has no vision tower, is incomplete, or cannot take this size.
    """
    weights = _find_clip_weights(source, storage)
    if weights is not None:
        folder = weights.parent
        module, preprocessing = build_openai_tower(weights, pretrained=pretrained, args=args, name=name)
    else:
        if args:
            raise ConfigError(f"backbone {name!r}: model arguments ({sorted(args)}) are for timm models only")
        patterns = (*_CONFIG_PATTERNS, *WEIGHT_PATTERNS) if pretrained else _CONFIG_PATTERNS
        folder = locate_folder(source, patterns=patterns, storage=storage)
        module = _read_tower(folder, pretrained=pretrained)
        preprocessing = read_preprocessing(folder, is_clip=module.config.model_type == CLIP_KIND)
    if image_size is not None:
        preprocessing = replace(preprocessing, size_px=image_size)
    _fit_size(module, preprocessing.size_px, name, folder, asked=image_size is not None)
    return wrap_tower(module, name=name, preprocessing=preprocessing)


def _find_clip_weights(source: str, storage: StorageConfig | None) -> Path | None:
    """Returns the file of weights, if the source is one, or a folder with one and without a config.json."""
    if Path(source).expanduser().is_file():
        return Path(source).expanduser()
    try:
        folder = locate_folder(source, patterns=_CONFIG_PATTERNS, storage=storage)
    except ConfigError:  # behind a URI there may be a file of weights and nothing else
        folder = locate_folder(source, patterns=(*_CONFIG_PATTERNS, *WEIGHT_FILES), storage=storage)
    if (folder / "config.json").is_file():
        return None
    return find_openai_weights(locate_folder(source, patterns=(*_CONFIG_PATTERNS, *WEIGHT_FILES), storage=storage))


def _read_tower(folder: Path, *, pretrained: bool) -> Any:
    config, settings = read_tower_config(folder)
    if pretrained:
        return _load_tower(folder, config).float()
    tower = tower_class(config).__name__
    return create_tower(config, pooler=tower in (settings.get("architectures") or [tower]))


def restore_tower_backbone(config: BackboneConfig, preprocessing: Preprocessing) -> TowerBackbone:
    """Builds the tower that `config` describes with random weights, without files or network."""
    if config.hf_config is None:
        raise ModelError(f"backbone {config.name!r}: its config has no hf_config")
    kind = str(config.hf_config.get("model_type", CLIP_KIND))
    kept = build_tower_config(kind, {}, f"backbone {config.name!r}")
    # A model's config may come from an untrusted source: only the tower's shape is read from it.
    shape = {key: value for key, value in config.hf_config.items() if key in shape_keys(kept)}
    module = create_tower(type(kept)(**shape), pooler=bool(config.hf_config.get(POOLER_KEY, True)))
    return wrap_tower(module, name=config.name, preprocessing=preprocessing)


def wrap_tower(module: Any, *, name: str, preprocessing: Preprocessing) -> TowerBackbone:
    """Wraps a vision tower of transformers as a backbone.

    Raises:
        ModelError: it defines no pooled output.
    """
    kind = module.config.model_type
    tower = TOWERS.get(kind)
    _set_aside_masks(module)
    size = preprocessing.size_px
    blocks = _group_layers(module) if tower is None else chain_blocks(module, tower.chain)
    backbone = TowerBackbone(
        module,
        config=BackboneConfig(name=name, image_size=size, hf_config=describe_shape(module)),
        blocks=blocks,
        num_features=_count_features(module, tower, size, name),
        preprocessing=preprocessing,
    )
    backbone.tower = tower
    return backbone


def _count_features(module: Any, tower: Tower | None, size: int, name: str) -> int:
    if tower is None:
        with torch.no_grad():
            was_training = module.training
            try:
                return _pooled(module.eval(), torch.zeros(1, 3, size, size)).shape[1]
            except (AttributeError, TypeError, ValueError, RuntimeError) as error:
                why = f"an image of {size} px: {type(error).__name__}: {error}"
                raise ModelError(_describe_unpooled(name, module, why)) from error
            finally:
                module.train(was_training)
    if getattr(module, "use_head", True) is False:  # SigLIP without its pooling
        raise ModelError(_describe_unpooled(name, module, "its config says vision_use_head false"))
    config = module.config
    if takes_pooler(type(module)) and module.pooler is not None:
        return int(config.pooler_output_size)
    width = next(getattr(config, key) for key in _WIDTHS if hasattr(config, key))
    return int(width[-1] if isinstance(width, list | tuple) else width)


def _describe_unpooled(name: str, module: Any, why: object) -> str:
    return (
        f"backbone {name!r}: {type(module).__name__} of transformers defines no pooled output for an image ({why}). "
        f"Known kinds of vision tower are {', '.join(TOWERS)}, and those whose output has pooler_output"
    )


def _pooled(module: Any, images: Tensor) -> Tensor:
    pooled = module(pixel_values=images).pooler_output
    if not isinstance(pooled, Tensor):
        raise ValueError("pooler_output is missing")
    return pooled.flatten(1)


def _group_layers(module: nn.Module) -> tuple[Block, ...]:
    """Returns blocks that can be frozen one by one, and only run together: the stem, then each layer or stage.

    The layers are the outermost list of modules with the most parameters. What comes before it is the stem, and what
    comes after it belongs to the last block.
    """
    lists = [(name, each) for name, each in module.named_modules() if isinstance(each, nn.ModuleList) and len(each) > 1]
    if not lists:
        return (Block("whole", (), tuple(name for name, _ in module.named_children())),)
    sizes = {name: sum(parameter.numel() for parameter in each.parameters()) for name, each in lists}
    name, layers = max(lists, key=lambda found: (sizes[found[0]], -len(found[0])))
    names = [key for key, _ in module.named_parameters()]
    first = next(place for place, key in enumerate(names) if key.startswith(f"{name}."))
    buffers = [key for key, _ in module.named_buffers() if key.rpartition(".")[0] in _holders(names[:first])]
    stem = Block("stem", (), (*names[:first], *buffers))
    return (stem, *(Block(f"{name}.{i}", (), (f"{name}.{i}",)) for i in range(len(layers))))


def _holders(names: list[str]) -> set[str]:
    return {name.rpartition(".")[0] for name in names}


def _set_aside_masks(module: nn.Module) -> None:
    """Makes the tokens of masked patches buffers: no image has such patches, so they would never get a gradient."""
    for name, parameter in list(module.named_parameters()):
        holder, _, leaf = name.rpartition(".")
        if leaf == "mask_token":
            owner = module.get_submodule(holder)
            delattr(owner, leaf)
            owner.register_buffer(leaf, parameter.detach().clone())


def _load_tower(folder: Path, config: PreTrainedConfig) -> Any:
    # Config and tensors are read here, because given a folder transformers would load any file that its configs name.
    tower = tower_class(config)
    classes = (tower.__name__, "CLIPImageProcessor" if config.model_type == CLIP_KIND else "AutoImageProcessor")
    try:
        tensors = {
            name: tensor
            for path in find_weight_files(folder, classes=classes)
            for name, tensor in load_file(path).items()
            if not name.startswith(_OTHERS)
        }
        has_pooler = any("pooler." in name for name in tensors)
        model, info = tower.from_pretrained(
            None,
            config=config,
            state_dict=tensors,
            dtype=torch.float32,
            output_loading_info=True,
            **({POOLER_KEY: has_pooler} if takes_pooler(tower) else {}),
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


def _fit_size(module: Any, size: int, name: str, folder: Path, *, asked: bool) -> None:
    """Makes a tower take images of this size, or raises an error."""
    config = module.config
    tower = TOWERS.get(config.model_type)
    if tower is None or tower.sizes == "any":  # without a row, `wrap_tower` tries the size
        return
    sizes, patch, own = tower.sizes, config.patch_size, config.image_size
    if asked and size % patch:
        raise ConfigError(f"backbone {name!r}: image_size {size} is not a multiple of its patch of {patch} px")
    if sizes == "patches" or size == own:
        return
    if not asked:
        raise ModelError(
            f"{folder}: the model takes images of {own} px, its image processor makes {size} px; correct the size in "
            "preprocessor_config.json"
        )
    if sizes == "own":
        raise ConfigError(
            f"backbone {name!r}: image_size {size}: a {config.model_type} of transformers takes images of {own} px "
            "alone; leave the size out, or use timm's model of the same weights"
        )
    _resize_positions(module, size)


def _resize_positions(module: Any, image_size: int) -> None:
    """Interpolates the position embeddings as transformers does on each call with `interpolate_pos_encoding`."""
    embeddings = module.embeddings
    num_patches = (image_size // module.config.patch_size) ** 2
    num_positions = num_patches + hasattr(embeddings, "class_embedding")
    with torch.no_grad():
        tokens = embeddings.position_embedding.weight.new_empty(1, num_positions, module.config.hidden_size)
        table = embeddings.interpolate_pos_encoding(tokens, image_size, image_size)[0]
    embeddings.position_embedding = nn.Embedding.from_pretrained(table.clone(), freeze=False)
    embeddings.position_ids = torch.arange(len(table)).expand((1, -1))
    embeddings.num_patches, embeddings.num_positions = num_patches, num_positions
    embeddings.image_size = module.config.image_size = image_size
