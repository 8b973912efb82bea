"""Training schedules as data: stages with a freeze depth each, and layer-wise learning rates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from timm.optim import param_groups_layer_decay
from torch import nn

from faceattr.errors import ConfigError
from faceattr.models.freezing import FreezeDepth
from faceattr.models.multitask import MultiAttributeModel


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A number of epochs with one freeze depth and one learning rate.

    Attributes:
        num_epochs: number of epochs, at least 1.
        freeze_depth: see `faceattr.models.freezing`.
        lr: peak learning rate of the heads; for blocks it is scaled by the layer decay.
    """

    num_epochs: int
    freeze_depth: FreezeDepth
    lr: float

    def __post_init__(self) -> None:
        if self.num_epochs < 1 or self.lr <= 0:
            raise ConfigError(
                f"stage: expected at least one epoch and a positive lr, found num_epochs={self.num_epochs} lr={self.lr}"
            )


def two_stages(
    *, head_epochs: int, epochs: int, head_lr: float = 1e-4, lr: float = 1e-5, freeze_depth: FreezeDepth = 0
) -> tuple[Stage, Stage]:
    """Returns the UTKFace ViT's schedule: heads on a frozen backbone, then all blocks after `freeze_depth`."""
    return (
        Stage(num_epochs=head_epochs, freeze_depth="all", lr=head_lr),
        Stage(num_epochs=epochs, freeze_depth=freeze_depth, lr=lr),
    )


def gradual_unfreezing(
    num_blocks: int,
    *,
    epochs: int,
    lr: float,
    lr_factor: float = 1.0,
    num_steps: int | None = None,
    freeze_depth: int = 0,
) -> tuple[Stage, ...]:
    """Trains the heads first, then unfreezes block by block from the last one down to `freeze_depth`.

    Args:
        num_blocks: number of blocks of the backbone.
        epochs: total number of epochs; a remainder goes to the earlier stages.
        lr: learning rate of the first stage.
        lr_factor: learning rate of a stage divided by the previous stage's.
        num_steps: number of stages after the first; by default one per block, or fewer if there are fewer epochs.
        freeze_depth: freeze depth of the last stage.

    Raises:
        ConfigError: some stage would get no epoch, or the depth is out of range.
    """
    if not 0 <= freeze_depth < num_blocks:
        raise ConfigError(f"gradual unfreezing: freeze_depth is {freeze_depth}; expected 0 to {num_blocks - 1}")
    thawed = num_blocks - freeze_depth
    steps = min(thawed, epochs - 1) if num_steps is None else num_steps
    if not 1 <= steps <= min(thawed, epochs - 1):
        raise ConfigError(
            f"gradual unfreezing: num_steps is {steps} for {thawed} blocks to thaw in {epochs} epochs; expected 1 to "
            f"{min(thawed, epochs - 1)}, with an epoch for each step and one for the heads before"
        )
    each, odd = divmod(epochs, steps + 1)
    return tuple(
        Stage(
            num_epochs=each + (1 if index < odd else 0),
            freeze_depth=num_blocks - round(thawed * index / steps),
            lr=lr * lr_factor**index,
        )
        for index in range(steps + 1)
    )


def stage_at(stages: Sequence[Stage], epoch: int) -> int:
    """Returns the index of the stage of an epoch, counted from 0; the last stage after the end of the schedule.

    Raises:
        ConfigError: there are no stages.
    """
    if not stages:
        raise ConfigError("a schedule needs at least one stage")
    end = 0
    for index, stage in enumerate(stages):
        end += stage.num_epochs
        if epoch < end:
            return index
    return len(stages) - 1


def build_parameter_groups(
    model: MultiAttributeModel, *, lr: float, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Builds optimizer parameter groups of the trainable parameters.

    The heads learn at `lr`, the last block at `lr * layer_decay`, the one before at `lr * layer_decay ** 2`, down to
    the stem. Biases, norms and embeddings have no weight decay.

    Returns:
        Groups with `params`, `lr`, `weight_decay`, and `name` such as `block3` or `heads_no_decay`. `lr` is final:
        there is no `lr_scale`, by which timm's schedulers would scale it again.

    Raises:
        ConfigError: the layer decay is out of range, or nothing trains.
    """
    if not 0 < layer_decay <= 1:
        raise ConfigError(f"layer_decay is {layer_decay}; expected more than 0 and at most 1 (1 is no decay)")
    groups = param_groups_layer_decay(
        _Layers(model), weight_decay=weight_decay, layer_decay=layer_decay, no_weight_decay_list=_no_weight_decay(model)
    )
    if not groups:
        raise ConfigError("nothing trains: the model has no parameter that requires a gradient")
    layers = {id(parameter): _layer_of(model, name) for name, parameter in model.named_parameters()}
    named = []
    for group in groups:
        layer = layers[id(group["params"][0])]
        name = "heads" if layer == model.backbone.num_blocks else f"block{layer}"
        named.append(
            {
                "params": group["params"],
                "lr": lr * group["lr_scale"],
                "weight_decay": group["weight_decay"],
                "name": name if group["weight_decay"] else f"{name}_no_decay",
            }
        )
    return named


class _Layers(nn.Module):
    """Gives timm's `group_matcher` to a model, so that timm knows the layer order of the model's parameters."""

    def __init__(self, model: MultiAttributeModel) -> None:
        super().__init__()
        self.model = model

    def group_matcher(self, coarse: bool = False) -> Any:
        del coarse
        return lambda name: _layer_of(self.model, name.removeprefix("model."))


def _layer_of(model: MultiAttributeModel, name: str) -> int:
    """Returns the block index of a model parameter; heads come after the last block."""
    inside = name.removeprefix("backbone.module.")
    return model.backbone.num_blocks if inside == name else model.backbone.block_of(inside)


def _no_weight_decay(model: MultiAttributeModel) -> set[str]:
    return {f"model.backbone.module.{name}" for name in model.backbone.no_weight_decay()}
