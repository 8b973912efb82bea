"""State of a training between two epochs, and its result."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

EpochRecord = dict[str, float]
"""Figures of one epoch: `epoch`, `stage`, `lr`, `objective`, `train/...`, `val/...`, `images_per_s`,
`data_wait_share`, `train_s`, `val_s`, `ended` (seconds since 1970), ..."""


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """A training after a number of whole epochs. Every epoch seeds its own random numbers, so none are stored.

    The tensors are those in use: write or copy them before training continues.

    Attributes:
        fingerprint: hash of the config and the model's shape; a training with another one refuses this state.
        epoch: number of finished epochs.
        num_steps: number of optimizer steps in these epochs.
        model: state dict of the model.
        best: state dict of the best epoch, as it was validated (the moving average if there is one).
        optimizer: state dict of the optimizer; likewise `schedule`, `scaler` and `weighting`.
        ema: state dict of the moving or plain average of the weights; None without one.
        selection: the best epoch, its value, and the number of epochs since then.
        history: records of the finished epochs.
    """

    fingerprint: str
    epoch: int
    num_steps: int
    model: Mapping[str, Tensor]
    best: Mapping[str, Tensor]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    scaler: dict[str, Any]
    weighting: dict[str, Any]
    selection: dict[str, Any]
    ema: Mapping[str, Tensor] | None = None
    history: list[EpochRecord] = field(default_factory=list)


Report = Callable[[EpochRecord, TrainingState], None]
"""Called on every rank after every epoch."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What of a training's state stays valid under other settings; weights and the number of epochs always do.

    Attributes:
        best: the best epoch, its weights, and the records of the epochs: their figures mean the same.
        moments: what the optimizer knows of the gradients: the same parameters are trained by the same optimizer.
        weighting: state of the learnt loss weights.
        scale: loss scale of float16.
    """

    best: bool
    moments: bool
    weighting: bool
    scale: bool


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """Result of a training; the model has the weights of its best epoch.

    Attributes:
        best_epoch: best epoch, from 0.
        objective: selection metric of the best epoch.
        history: one record per epoch.
        stopped_early: whether training stopped before the last epoch.
    """

    best_epoch: int
    objective: float
    history: list[EpochRecord]
    stopped_early: bool
