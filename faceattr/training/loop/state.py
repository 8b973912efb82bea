"""What a training has to remember between two epochs, and what it gives in the end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

EpochRecord = dict[str, float]
"""Figures of one epoch: `epoch`, `stage`, `lr`, `objective`, `train/...`, `val/...`, `images_per_s`,
`data_wait_share`, `train_s`, `val_s`, `ended` (seconds since 1970), ..."""


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """A training after some whole epochs. Every epoch seeds its own random numbers, so none are kept.

    The tensors are those in use: write or copy them before training goes on.

    Attributes:
        fingerprint: of the config and the model's shape; a training with another one refuses this state.
        epoch: number of finished epochs.
        num_steps: of the optimizer in them.
        model: state dict.
        best: state dict of the best epoch, as it was validated (the moving average where there is one).
        optimizer: state dict; so are `schedule`, `scaler` and `weighting`.
        ema: state dict of the moving average, None without one.
        selection: the best epoch and its value, and for how long there was no better one.
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
class FitResult:
    """The end of a training; the model has the weights of its best epoch.

    Attributes:
        best_epoch: counted from 0.
        objective: the chosen metric there.
        history: one record an epoch.
        stopped_early: whether epochs were left.
    """

    best_epoch: int
    objective: float
    history: list[EpochRecord]
    stopped_early: bool
