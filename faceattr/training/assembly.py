"""Builds from a TrainConfig and the data's attributes what `fit` needs: the model, its stages and initial biases."""

import difflib
import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from faceattr.attributes import AttributeSet
from faceattr.config import StorageConfig
from faceattr.config.train import ModelConfig, TrainConfig
from faceattr.data.model_folders import locate_folder
from faceattr.errors import ConfigError
from faceattr.models.backbones.modes import set_batch_norm, set_recompute
from faceattr.models.backbones.names import build_backbone, built_name, defined_arguments
from faceattr.models.freezing import freeze, resolve_depth
from faceattr.models.heads import HeadConfig, head_configs
from faceattr.models.multitask import MultiAttributeModel
from faceattr.models.saved import check_attributes, read_config
from faceattr.models.saved_config import MODEL_FILES
from faceattr.models.schedules import Stage, gradual_unfreezing, two_stages
from faceattr.training.loop.epoch import validation_figures
from faceattr.training.loop.selection import Selection
from faceattr.training.losses.multi_loss import build_objective, initialise_heads
from faceattr.training.metrics import Metrics
from faceattr.training.targets import count_bins


def choose_attributes(available: AttributeSet, names: tuple[str, ...]) -> AttributeSet:
    """Returns the attributes to train, in the data's order, with the derived rules whose inputs are all among them.

    Args:
        available: attributes of the data.
        names: requested attributes; empty for all.

    Raises:
        ConfigError: the data lacks a requested attribute; the error lists similar names.
    """
    for name in names:
        if name not in available.names:
            near = difflib.get_close_matches(name, available.names, n=3)
            hint = f"did you mean {', '.join(near)}?" if near else f"the data have {', '.join(available.names)}"
            raise ConfigError(f"--attributes: the data have no attribute {name!r}; {hint}")
    chosen = tuple(each for each in available.attributes if not names or each.name in names)
    known = {each.name for each in chosen}
    return AttributeSet(
        attributes=chosen, derived=tuple(rule for rule in available.derived if known.issuperset(rule.inputs))
    )


def build_model(
    config: TrainConfig,
    attributes: AttributeSet,
    *,
    counts: Mapping[str, Tensor],
    pretrained: bool | None = None,
    storage: StorageConfig | None = None,
) -> MultiAttributeModel:
    """Builds the model before its first step: on the CPU, in training mode, frozen as configured.

    Args:
        config: settings.
        attributes: attributes to train.
        counts: attribute name -> number of labels by class, from `LabelTotals`, for the biases of new heads.
        pretrained: whether to load the backbone's published weights; by default as configured.
        storage: how object storage is reached, where the source is a URI.

    Raises:
        ConfigError, ModelError: the backbone, a head or the checkpoint is not available or does not fit the data.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if config.model.checkpoint is not None:
            model, fresh = _continue_model(config, attributes, storage)
        else:
            wanted = config.model.pretrained if pretrained is None else pretrained
            model, fresh = _new_model(config, attributes, wanted, storage), attributes.names
        _set_crop(model, config.model.crop_fraction)
        set_batch_norm(model.backbone, config.model.batch_norm)
        if config.workers.recompute:
            set_recompute(model.backbone)
        freeze(model, config.freeze.depth)
        if config.lora.rank:
            from faceattr.models.lora.adapters import apply_lora  # noqa: PLC0415 - late: peft and transformers

            lora = config.lora
            apply_lora(
                model.backbone,
                rank=lora.rank,
                alpha=lora.alpha,
                dropout=lora.dropout,
                targets=lora.targets or None,
                use_dora=lora.dora,
            )
    objective = build_objective(attributes, model.head_configs, config.loss, counts)
    initialise_heads(model, objective, counts, names=fresh)
    return model.train()


def build_untrained(
    config: TrainConfig, attributes: AttributeSet, *, storage: StorageConfig | None = None
) -> MultiAttributeModel:
    """Builds the model with random weights, to check before any label is read that the settings fit it.

    Raises:
        ConfigError, ModelError: see `build_model`; for example for a backbone's name, size or arguments, a freeze
            depth, a head, or an attribute that the loss names.
    """
    counts = {each.name: torch.ones(count_bins(each), dtype=torch.float64) for each in attributes.attributes}
    return build_model(config, attributes, counts=counts, pretrained=False, storage=storage)


def _new_model(
    config: TrainConfig, attributes: AttributeSet, pretrained: bool, storage: StorageConfig | None
) -> MultiAttributeModel:
    settings = config.model
    backbone = build_backbone(
        settings.backbone,
        pretrained=pretrained,
        image_size=settings.image_size,
        args={name: _read_argument(value) for name, value in settings.args.items()},
        storage=storage,
    )
    return MultiAttributeModel(backbone, attributes, heads=_choose_heads(config, attributes))


def _set_crop(model: MultiAttributeModel, fraction: float | str) -> None:
    if isinstance(fraction, str):
        if fraction == "auto":
            raise ConfigError(
                "--model.crop-fraction: expected a number or backbone, once a recipe is resolved, found auto"
            )
        return
    model.backbone.preprocessing = replace(model.backbone.preprocessing, crop_fraction=fraction)


def renamed_backbone(settings: ModelConfig) -> dict[str, str]:
    """Returns fingerprint entries if the backbone that is built differs from its configured name, else nothing.

    Older versions built the named backbone. The entries make their runs differ from new ones, so that they are not
    resumed with another activation or another pooling.
    """
    if settings.checkpoint is not None:
        return {}
    built = built_name(settings.backbone)
    found = {} if built == settings.backbone else {"backbone_with_quickgelu": built}
    defined = defined_arguments(settings.backbone).items()
    return found | {f"backbone_{name}": value for name, value in defined if name not in settings.args}


def _read_argument(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _choose_heads(config: TrainConfig, attributes: AttributeSet) -> dict[str, HeadConfig]:
    output, loss = config.model.age_output, config.loss
    heads = head_configs(config.model.head, attributes)
    if output is not None:
        heads = {name: replace(head, age_output=output) for name, head in heads.items()}
    if loss.arcface_margin:
        persons = [each.name for each in attributes.attributes if each.is_person]
        heads |= {name: replace(heads[name], cosine_scale=loss.arcface_scale) for name in persons}
    return heads


def _continue_model(
    config: TrainConfig, attributes: AttributeSet, storage: StorageConfig | None
) -> tuple[MultiAttributeModel, tuple[str, ...]]:
    """Loads a trained model, gives it heads for these attributes, and returns it with the names of the new heads."""
    source = str(config.model.checkpoint)
    old = MultiAttributeModel.from_pretrained(source, storage=storage)
    shared = tuple(each for each in attributes.attributes if each.name in old.attributes.names)
    if shared:
        check_attributes(old.attributes, AttributeSet(attributes=shared), f"--model.checkpoint {source}")
    heads = _choose_heads(config, attributes) | {each.name: old.head_configs[each.name] for each in shared}
    model = MultiAttributeModel(old.backbone, attributes, heads=heads)
    for each in shared:
        model.head(each.name).load_state_dict(old.head(each.name).state_dict())
    fresh = tuple(name for name in attributes.names if name not in old.attributes.names)
    return model, fresh


def describe_forgotten(settings: ModelConfig, *, storage: StorageConfig | None = None) -> list[str]:
    """Describes what a training does not keep from `--model.checkpoint`: thresholds and calibration of its scores.

    Raises:
        ConfigError, ModelError: the model cannot be found, or was not saved by faceattr.
    """
    if settings.checkpoint is None:
        return []
    old = read_config(locate_folder(settings.checkpoint, patterns=MODEL_FILES, storage=storage))
    found = [f"threshold of {name} {cut:g}" for name, cut in old.thresholds.items()]
    found += [f"calibration of {name}" for name in old.calibration]
    if not found:
        return []
    return [
        f"not kept from {settings.checkpoint}, because scores will change: {', '.join(found)}; thresholds are 0.5 "
        "unless --thresholds.criterion chooses them, and `faceattr evaluate` fits both"
    ]


def build_stages(config: TrainConfig, model: MultiAttributeModel) -> tuple[Stage, ...]:
    """Builds the stages of the freeze schedule.

    Raises:
        ConfigError: the depth or the number of stages does not fit the backbone.
    """
    settings, optim = config.freeze, config.fit.optim
    depth = resolve_depth(model.backbone, settings.depth)
    match settings.schedule:
        case "two-stage":
            return two_stages(
                head_epochs=settings.head_epochs,
                epochs=optim.epochs - settings.head_epochs,
                head_lr=settings.head_lr or optim.lr,
                lr=optim.lr,
                freeze_depth=depth,
            )
        case "gradual":
            return gradual_unfreezing(
                model.backbone.num_blocks,
                epochs=optim.epochs,
                lr=optim.lr,
                lr_factor=settings.lr_factor,
                num_steps=settings.num_steps,
                freeze_depth=depth,
            )
        case "constant":
            return (Stage(num_epochs=optim.epochs, freeze_depth=depth, lr=optim.lr),)


def check_selection(config: TrainConfig, attributes: AttributeSet, labelled: Collection[str]) -> None:
    """Checks that validation can compute the selection metric.

    Args:
        config: settings.
        attributes: attributes to train.
        labelled: names of the attributes with a label on some validation image.

    Raises:
        ConfigError: the metric does not exist (the error lists similar ones), or validation has no label for it.
    """
    Selection(config.select, validation_figures(Metrics(attributes)))
    for metric in config.select.combine or [config.select.metric]:
        name = metric.partition("/")[0]
        lacking = not labelled if metric == "loss" else name not in labelled
        if lacking:
            what = "any attribute" if metric == "loss" else repr(name)
            raise ConfigError(
                f"--select.metric {metric!r}: no validation image has a label of {what}; choose another metric, or "
                "pack data with a validation split that has them"
            )
