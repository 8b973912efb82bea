"""Backbones from timm, built by name without a classifier, with their blocks in forward order."""

import difflib
from collections.abc import Mapping
from typing import Any

import timm
from huggingface_hub.errors import HfHubHTTPError
from timm.models.eva import Eva, EvaBlock, EvaBlockPostNorm
from timm.models.inception_v3 import InceptionV3
from timm.models.vgg import VGG
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from faceattr.errors import ConfigError, ModelError
from faceattr.models.backbones.blocks import Backbone, BackboneConfig
from faceattr.models.backbones.preprocessing import Preprocessing
from faceattr.models.backbones.timm_chains import find_timm_blocks

# Inception v3 needs images of at least this side; the other families work with feature maps of one pixel.
_INCEPTION_MIN_PX = 75
_QUICKGELU = "quickgelu"
# Arguments of timm.create_model that are set here, or that name files and URLs to load from.
_RESERVED = {
    *("img_size", "num_classes", "pretrained", "in_chans"),
    *("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "pretrained_strict"),
}


class TimmBackbone(Backbone):
    """A timm model; see `Backbone`."""

    def pool(self, x: Tensor) -> Tensor:
        """Applies timm's own pooling, and the norm after it if the model has one."""
        return self.module.forward_head(x)

    def no_weight_decay(self) -> set[str]:
        """Returns timm's list: position embeddings, class tokens and the like."""
        listed = getattr(self.module, "no_weight_decay", None)
        return set(listed()) if listed else set()


class EvaBackbone(TimmBackbone):
    """A transformer of timm whose layers take rotary positions: EVA-02, DINOv3. See `Backbone`."""

    def step_context(self, x: Tensor) -> Any:
        """Returns the rotary positions, or None; in training timm moves and scales DINOv3's at random."""
        del x
        rope = self.module.rope
        if rope is None:
            return None
        if hasattr(rope, "feat_shape") and not self.module.dynamic_img_size:
            return rope.get_embed()
        side = self.config.image_size // self.module.patch_embed.patch_size[0]
        return rope.get_embed(shape=(side, side))

    def run_step(self, step: Any, x: Tensor, context: Any) -> Tensor:
        """Runs one step of a block; the step that adds absolute positions returns the rotary ones as well."""
        if isinstance(step, EvaBlock | EvaBlockPostNorm):
            return step(x, rope=context)
        found = step(x)
        return found[0] if isinstance(found, tuple) else found


def build_timm_backbone(
    name: str, *, pretrained: bool, image_size: int | None, args: Mapping[str, Any] | None = None
) -> TimmBackbone:
    """Builds a timm model without classifier.

    A VGG is built without its two fully connected layers, as the preset celeba4 has it: the features are the pooled
    output of the last convolution.

    Args:
        name: timm name, built unchanged; see `native_name`.
        pretrained: whether to download weights.
        image_size: side in px.
        args: further arguments of timm's constructor.

    Raises:
        ConfigError: the name, weights tag or argument is unknown, or the model does not support the size.
        ModelError: the weights cannot be downloaded.
    """
    check_timm_name(name, pretrained=pretrained)
    module = _create(name, pretrained=pretrained, image_size=image_size, args=dict(args or {}))
    settings = timm.data.resolve_model_data_config(module)
    size = image_size or settings["input_size"][1]
    _check_size(name, module, size)
    if isinstance(module, VGG):
        _drop_fully_connected(module)
    family = EvaBackbone if isinstance(module, Eva) else TimmBackbone
    return family(
        module,
        config=BackboneConfig(name=name, image_size=size, args=dict(args or {})),
        blocks=find_timm_blocks(module),
        num_features=module.num_features if isinstance(module, VGG) else module.head_hidden_size,
        preprocessing=Preprocessing(
            size_px=size,
            mean=tuple(settings["mean"]),
            std=tuple(settings["std"]),
            interpolation=settings["interpolation"],
            crop_mode=settings["crop_mode"] or "center",
            crop_fraction=settings["crop_pct"],
        ),
    )


def check_timm_name(name: str, *, pretrained: bool) -> None:
    """Raises ConfigError unless timm has this model and the weights of its tag; the error lists similar names."""
    if not timm.is_model(name):
        near = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), n=5, cutoff=0.6)
        hint = f"near names are {', '.join(near)}" if near else "`timm.list_models()` lists the names"
        raise ConfigError(
            f"backbone {name!r}: timm {timm.__version__} has no such model; {hint}. For a CLIP tower of transformers "
            "give a folder, or a hub id as `hf:owner/name`"
        )
    architecture, _, tag = name.partition(".")
    tags = [full.partition(".")[2] for full in timm.list_models(f"{architecture}.*", pretrained=True)]
    if tag and tag not in tags:
        near = difflib.get_close_matches(tag, tags, n=5, cutoff=0.0)
        raise ConfigError(
            f"backbone {name!r}: {architecture} has no weights {tag!r}; it has {', '.join(near) or 'none'}"
        )
    if pretrained and not tags:
        raise ConfigError(f"backbone {name!r}: timm has no pretrained weights for it; train it from scratch")


def describe_timm_remedy(name: str) -> str:
    """Returns what to do where a model's weights cannot be downloaded: no folder can be given in place of its name."""
    return (
        f"On a machine with network access, `python -c \"import timm; timm.create_model('{name}', pretrained=True)\"` "
        "puts them into its cache; copy that here and point HF_HOME at it (TORCH_HOME, if they are not on the hub)"
    )


def native_name(name: str) -> str:
    """Returns the timm name with the activation that the weights were trained with.

    OpenAI, and some after them, trained CLIP with QuickGELU, x * sigmoid(1.702 x). timm offers their weights under two
    names: `vit_large_patch14_clip_224.openai` builds GELU blocks for them, whose features differ, and
    `vit_large_patch14_clip_quickgelu_224.openai` builds the blocks of the paper, of open_clip and of transformers. timm
    notes in the weights' settings which activation they need.

    Args:
        name: name known to timm, with or without a weights tag.

    Returns:
        The name itself, or the one with QuickGELU.

    Raises:
        ConfigError: the weights need QuickGELU, and timm has no such model for them.
    """
    settings = timm.get_pretrained_cfg(name)
    architecture = name.partition(".")[0]
    if settings is None or _QUICKGELU in architecture or _QUICKGELU not in " ".join(settings.notes or ()).lower():
        return name
    native = f"{architecture.replace('_clip_', f'_clip_{_QUICKGELU}_')}.{settings.tag}"
    if native not in timm.list_models(f"{native.partition('.')[0]}.*", pretrained=True):
        raise ConfigError(
            f"backbone {name!r}: its weights were trained with QuickGELU, and timm {timm.__version__} has no model "
            "with this activation for them; choose another backbone, or its checkpoint of transformers as "
            "`hf:owner/name`"
        )
    return native


def _create(name: str, *, pretrained: bool, image_size: int | None, args: dict[str, Any]) -> Any:
    if reserved := sorted(_RESERVED & set(args)):
        raise ConfigError(
            f"backbone {name!r}: {reserved} cannot be given as model arguments; use image_size for a size"
        )
    # Models with position embeddings are built for one size; convolutional ones have no such argument.
    published = timm.get_pretrained_cfg(name)
    if image_size is not None and published is not None and published.fixed_input_size:
        args["img_size"] = image_size
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=0, **args)
    except TypeError as error:
        raise ConfigError(f"backbone {name!r}: its constructor does not take the arguments {args}: {error}") from error
    except (HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"backbone {name!r}: its pretrained weights cannot be downloaded: {error}. {describe_timm_remedy(name)}"
        ) from error


def _check_size(name: str, module: Any, size: int) -> None:
    is_transformer = isinstance(module, VisionTransformer | Eva)
    if is_transformer:
        patch = module.patch_embed.patch_size[0]
        if size % patch:
            raise ConfigError(f"backbone {name!r}: image_size {size} is not a multiple of its patch of {patch} px")
    least = _INCEPTION_MIN_PX if isinstance(module, InceptionV3) else 32
    if size < least and not is_transformer:
        raise ConfigError(f"backbone {name!r}: image_size {size} is too small; it takes {least} px and more")


def _drop_fully_connected(module: Any) -> None:
    """Removes 120 of VGG16's 134 million weights, and with them its fixed input size."""
    module.pre_logits = nn.Identity()
    module.head = type(module.head)(module.num_features, 0, pool_type="avg")
    module.head_hidden_size = module.num_features
