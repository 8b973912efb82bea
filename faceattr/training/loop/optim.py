"""Optimizer, learning-rate schedule, averages of the weights, and loss scaling."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel

from faceattr.config import Precision
from faceattr.config.fit import OptimConfig
from faceattr.models.multitask import MultiAttributeModel
from faceattr.models.schedules import build_parameter_groups


def build_optimizer(
    model: MultiAttributeModel,
    config: OptimConfig,
    *,
    lr: float,
    extra: Sequence[nn.Parameter] = (),
    extra_lr: float = 0.0,
) -> Optimizer:
    """Builds the optimizer of the trainable parameters.

    Args:
        model: model after `freeze`.
        config: settings.
        lr: peak learning rate of the heads.
        extra: parameters of the loss weighting, without weight decay or schedule.
        extra_lr: learning rate of the extra parameters.

    Returns:
        The optimizer; its groups have `initial_lr`, the peak learning rate, and `name`. On a GPU it updates all weights
        in one kernel.

    Raises:
        ConfigError: nothing trains.
    """
    groups = build_parameter_groups(model, lr=lr, weight_decay=config.weight_decay, layer_decay=config.layer_decay)
    if extra:
        groups.append({"params": list(extra), "lr": extra_lr, "weight_decay": 0.0, "name": "loss_weighting"})
    for group in groups:
        group["initial_lr"] = group["lr"]
    fused = _can_fuse(groups)
    match config.name:
        case "adamw":
            return AdamW(groups, lr=lr, fused=fused)
        case "adam":
            return Adam(groups, lr=lr, fused=fused)
        case "sgd":
            return SGD(groups, lr=lr, momentum=config.momentum, nesterov=config.momentum > 0, fused=fused)


def _can_fuse(groups: Sequence[Mapping[str, Any]]) -> bool | None:
    """Returns True if all weights are on a GPU, else None, torch's own choice."""
    return all(weight.is_cuda for group in groups for weight in group["params"]) or None


def load_optimizer_state(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Restores a state; the optimizer stays fused, or not, as it was built, also if the state's was not.

    torch takes that from the state, and places the count of steps by it: on the weights' device if fused.
    """
    built = [{name: group[name] for name in ("fused", "foreach")} for group in optimizer.param_groups]
    groups = [{**group, **own} for group, own in zip(state["param_groups"], built, strict=True)]
    optimizer.load_state_dict({**state, "param_groups": groups})


def inherit_moments(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Takes over what an optimizer of the same kind and groups knows of the gradients; rates and decay stay its own.

    Raises:
        ValueError: the groups differ.
    """
    own = optimizer.state_dict()["param_groups"]
    groups = [{**each, "params": there["params"]} for each, there in zip(own, state["param_groups"], strict=True)]
    load_optimizer_state(optimizer, {"state": state["state"], "param_groups": groups})


def rate_share(state: Mapping[str, Any]) -> float:
    """Returns the learning rate in an optimizer's state as a share of its peak."""
    groups = [group for group in state["param_groups"] if group["name"] != "loss_weighting"]
    return max(float(group["lr"]) / float(group["initial_lr"]) for group in groups)


class Schedule:
    """Learning rates over the steps of one stage.

    warm-up   peak * (step + 1) / warm-up steps
    cosine    peak * (r + (1 - r) * (1 + cos(pi * t)) / 2), t from 0 to 1 after the warm-up, r = min_lr_ratio
    plateau   torch's ReduceLROnPlateau on the selection metric, in the direction of improvement
    """

    def __init__(
        self,
        optimizer: Optimizer,
        config: OptimConfig,
        *,
        steps_per_epoch: int,
        num_epochs: int,
        larger_is_better: bool,
    ) -> None:
        self.optimizer = optimizer
        self.step = 0
        self._config = config
        self._warmup_steps = round(config.warmup_epochs * steps_per_epoch)
        self._total_steps = num_epochs * steps_per_epoch
        self._plateau = ReduceLROnPlateau(
            optimizer,
            mode="max" if larger_is_better else "min",
            factor=config.plateau_factor,
            patience=config.plateau_patience,
            threshold=0.0,
            threshold_mode="abs",
            min_lr=[
                group["lr"] if group["name"] == "loss_weighting" else group["initial_lr"] * config.min_lr_ratio
                for group in optimizer.param_groups
            ],
        )

    @property
    def _groups(self) -> list[dict[str, Any]]:
        # Not cached: an optimizer that loads a state creates new groups.
        return [group for group in self.optimizer.param_groups if group["name"] != "loss_weighting"]

    @property
    def lr(self) -> float:
        """Learning rate of the heads."""
        return float(max(group["lr"] for group in self._groups))

    def before_step(self) -> None:
        """Sets the learning rates of the next step."""
        past = self.step - self._warmup_steps
        if past < 0:
            self._scale((self.step + 1) / self._warmup_steps)
        elif self._config.schedule == "cosine":
            lowest = self._config.min_lr_ratio
            share = min(1.0, past / max(1, self._total_steps - self._warmup_steps))
            self._scale(lowest + (1 - lowest) * (1 + math.cos(math.pi * share)) / 2)
        self.step += 1

    def after_epoch(self, metric: float) -> None:
        """Passes the selection metric of validation to the schedule."""
        if self._config.schedule == "plateau" and self.step >= self._warmup_steps:
            self._plateau.step(metric)

    def _scale(self, factor: float) -> None:
        for group in self._groups:
            group["lr"] = group["initial_lr"] * factor

    def state_dict(self) -> dict[str, Any]:
        """Returns plain values; the learning rates are in the optimizer's state."""
        return {"step": self.step, "plateau": self._plateau.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state from `state_dict`."""
        self.step = state["step"]
        self._plateau.load_state_dict(state["plateau"])

    def start_at(self, step: int, *, share: float, seen: Mapping[str, Any] | None) -> None:
        """Starts where a training with other settings has come to.

        Args:
            step: number of steps of this stage that are over.
            share: learning rate at that place as a share of the peak. `plateau` begins with it, since it does not
                follow from the step.
            seen: the `plateau` of the other schedule's state, if its metric has the same meaning.
        """
        self.step = step
        if self._config.schedule == "plateau" and step >= self._warmup_steps:
            self._scale(share)
            if seen is not None:
                self._plateau.load_state_dict({name: seen[name] for name in ("best", "num_bad_epochs")})


def build_ema(model: MultiAttributeModel, config: OptimConfig) -> ModelEmaV3 | None:
    """Builds the moving average of all weights and statistics, on the model's device; None if not configured.

    Its decay rises as 1 - (1 + step) ** (-2 / 3) to the configured one, so that the random start is soon forgotten.
    """
    if config.ema_decay is None:
        return None
    return ModelEmaV3(model, decay=config.ema_decay, use_warmup=True)


def build_swa(model: MultiAttributeModel, config: OptimConfig) -> AveragedModel | None:
    """Builds the plain average of weights and batch-norm statistics over the last epochs; None if not configured."""
    return AveragedModel(model, use_buffers=True) if config.swa_epochs else None


def update_swa(
    average: AveragedModel, model: MultiAttributeModel, config: OptimConfig, *, epoch: int, epochs: int
) -> None:
    """Adds the weights at the end of an epoch to the average; before the last `swa_epochs` it follows the model.

    Args:
        average: the average, from `build_swa`.
        model: the model at the end of the epoch.
        config: settings.
        epoch: which epoch, from 0.
        epochs: number of epochs of the training.
    """
    # The count follows from the epoch, so that a resumed training needs no more than the averaged weights.
    average.n_averaged.fill_(max(0, epoch - (epochs - config.swa_epochs)))
    average.update_parameters(model)


def build_scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler:
    """Builds the loss scaling for float16, whose small gradients would vanish; it does nothing for other dtypes."""
    return torch.amp.GradScaler(device.type, enabled=precision == "float16")
