"""The training loop: stages of epochs, validation, the best epoch. It knows no cluster; a job passes in what differs.

    for each stage: freeze, optimizer, schedule
        for each epoch: train, validate, keep the best, report; stop when the last stage waits in vain
    restore the best

All random numbers of an epoch follow from (seed, epoch, rank), and the data come by epoch number, so that a training
that is resumed at an epoch continues as if it had not stopped.
"""

import copy
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from faceattr.config.fit import FitConfig, compute_fingerprint
from faceattr.errors import ConfigError
from faceattr.models.freezing import freeze
from faceattr.models.multitask import MultiAttributeModel
from faceattr.models.schedules import Stage, stage_at
from faceattr.models.transforms import image_seed
from faceattr.training.loop.epoch import train_epoch, validate, validation_figures
from faceattr.training.loop.forward import Forward
from faceattr.training.loop.optim import Schedule, build_ema, build_optimizer, build_scaler
from faceattr.training.loop.ranks import Reduce, average_buffers, count_ranks, no_reduce
from faceattr.training.loop.selection import Selection
from faceattr.training.loop.state import EpochRecord, FitResult, Report, TrainingState
from faceattr.training.loop.step import TrainStep
from faceattr.training.losses.multi_loss import build_objective
from faceattr.training.losses.weighting import LossWeighting
from faceattr.training.metrics import Metrics
from faceattr.training.targets import Batch

Wrap = Callable[[Any], nn.Module]


def fit(
    model: MultiAttributeModel,
    train_batches: Callable[[int], Iterable[Batch]],
    val_batches: Callable[[], Iterable[Batch]],
    config: FitConfig,
    *,
    counts: Mapping[str, Tensor],
    steps_per_epoch: int,
    device: torch.device,
    stages: Sequence[Stage] | None = None,
    reduce: Reduce = no_reduce,
    rank: int = 0,
    network: Wrap = lambda model: model,
    distribute: Wrap = lambda network: network,
    report: Report | None = None,
    state: TrainingState | None = None,
) -> FitResult:
    """Trains a model and leaves it with the weights of its best epoch, in eval mode.

    Args:
        model: on any device; its parts are moved. Under DDP the same on all ranks.
        train_batches: epoch number, from 0 -> this rank's batches, on the CPU.
        val_batches: this rank's batches for validation; their number may differ between ranks.
        config: settings.
        counts: attribute name -> labels by class in the training data of all ranks, from `LabelTotals`.
        steps_per_epoch: optimizer steps, for the learning rate.
        device: that is computed on.
        stages: what trains when; their epochs and learning rates replace those of `config.optim`. By default one
            stage with what is frozen in the model now.
        reduce: adds a float64 CPU tensor over ranks; called equally often everywhere.
        rank: seeds this process' dropout and mixup.
        network: model -> what inputs go through, after each freeze: the model itself, or its suffix where inputs are
            activations at a boundary.
        distribute: network -> what is called in training, such as DDP around it. Freezing changes which parameters
            have gradients, so it is called once a stage.
        report: gets the record and the state of each epoch, on every rank.
        state: where to go on.

    Returns:
        The best epoch and the records of all.

    Raises:
        ConfigError: the config does not fit the model, or the state belongs to another config.
        RunError: a loss is not finite, the chosen metric is not defined, or a worker has no data.
    """
    training = _Training(
        model,
        config,
        counts=counts,
        steps_per_epoch=steps_per_epoch,
        device=device,
        stages=stages,
        reduce=reduce,
        network=network,
        distribute=distribute,
    )
    if state is not None:
        training.load(state)
    while not training.is_over:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(image_seed(config.seed, epoch=training.epoch, row=rank))
            record = training.run_epoch(train_batches, val_batches)
        if report is not None:
            report(record, training.state())
    return training.finish()


class _Training:
    """The parts of a training and how far it is."""

    _network: nn.Module
    _schedule: Schedule
    _optimizer: torch.optim.Optimizer
    _step: TrainStep

    def __init__(
        self,
        model: MultiAttributeModel,
        config: FitConfig,
        *,
        counts: Mapping[str, Tensor],
        steps_per_epoch: int,
        device: torch.device,
        stages: Sequence[Stage] | None,
        reduce: Reduce,
        network: Wrap,
        distribute: Wrap,
    ) -> None:
        optim = config.optim
        self.epoch = 0
        self._steps_per_epoch = steps_per_epoch
        self._model, self._config, self._device, self._reduce = model, config, device, reduce
        self._wrap, self._distribute = network, distribute
        self._stages = stages or (
            Stage(num_epochs=optim.epochs, freeze_depth=model.backbone.frozen_depth, lr=optim.lr),
        )
        self._num_epochs = sum(stage.num_epochs for stage in self._stages)
        # Denominators are computed from labels on the CPU, so that no step waits for the device.
        self._cpu_objective = build_objective(model.attributes, model.head_configs, config.loss, counts)
        self._objective = copy.deepcopy(self._cpu_objective).to(device)
        self._weighting = LossWeighting(config.loss, self._cpu_objective.loss_weights).to(device)
        self._selection = Selection(config.select, validation_figures(self._metrics()))
        self._forward = Forward(model.backbone.preprocessing, precision=optim.precision, device=device)
        self._scaler = build_scaler(optim, device)
        freeze(model, self._stages[0].freeze_depth)
        # A suffix moves alone: the frozen prefix stays where it is.
        network(model).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload] # not in its stubs
        self._ema = build_ema(model, optim)
        self._world_size = count_ranks(reduce)
        self._fingerprint = compute_fingerprint(
            config,
            list(self._stages),
            list(model.attributes.attributes),
            dict(model.head_configs),
            model.backbone.config,
        )
        self._num_steps = 0
        self._best: dict[str, Tensor] = {}
        self._history: list[EpochRecord] = []

    @property
    def is_over(self) -> bool:
        """Whether no epoch is left, or the last stage has waited long enough."""
        in_last = self.epoch > 0 and stage_at(self._stages, self.epoch - 1) == len(self._stages) - 1
        return self.epoch >= self._num_epochs or (in_last and self._selection.is_over)

    def run_epoch(
        self, train_batches: Callable[[int], Iterable[Batch]], val_batches: Callable[[], Iterable[Batch]]
    ) -> EpochRecord:
        """Trains and validates one epoch."""
        stage = stage_at(self._stages, self.epoch)
        if self.epoch == 0 or stage != stage_at(self._stages, self.epoch - 1):
            self._start_stage(stage)
        self._network.train()
        trained = train_epoch(
            self._step,
            train_batches(self.epoch),
            self._cpu_objective,
            accumulation=self._config.optim.accumulation,
            reduce=self._reduce,
            epoch=self.epoch,
        )
        self._num_steps = self._step.num_steps
        self._weighting.end_epoch()
        if self._world_size > 1:
            average_buffers([self._model] if self._ema is None else [self._model, self._ema.module], self._reduce)
        started_s = time.perf_counter()
        figures = validate(
            self._wrap(self._judged),
            val_batches(),
            self._cpu_objective,
            self._metrics(),
            forward=self._forward,
            device=self._device,
            reduce=self._reduce,
        )
        value = self._selection.value_of(figures, self.epoch)
        if self._selection.update(value, self.epoch):
            self._best = _copy_to_cpu(self._judged)
        record = {"epoch": float(self.epoch), "stage": float(stage), "lr": self._schedule.lr, "objective": value}
        record |= trained | {f"val/{name}": figure for name, figure in figures.items()}
        record |= {"val_s": time.perf_counter() - started_s, "ended": time.time()}
        self._schedule.after_epoch(value)
        self._history.append(record)
        self.epoch += 1
        return record

    def _start_stage(self, stage: int) -> None:
        config, depth, lr = self._config, self._stages[stage].freeze_depth, self._stages[stage].lr
        freeze(self._model, depth)
        if self._ema is not None:
            freeze(self._ema.module, depth)
        self._selection.start_stage()
        self._optimizer = build_optimizer(
            self._model,
            config.optim,
            lr=lr,
            extra=self._weighting.trained_parameters(),
            extra_lr=config.loss.weighting_lr,
        )
        self._schedule = Schedule(
            self._optimizer,
            config.optim,
            steps_per_epoch=self._steps_per_epoch,
            num_epochs=self._stages[stage].num_epochs,
            larger_is_better=self._selection.larger_is_better,
        )
        self._network = self._distribute(self._wrap(self._model))
        self._step = TrainStep(
            model=self._model,
            network=self._network,
            objective=self._objective,
            weighting=self._weighting,
            optimizer=self._optimizer,
            schedule=self._schedule,
            scaler=self._scaler,
            ema=self._ema,
            config=config.optim,
            forward=self._forward,
            device=self._device,
            reduce=self._reduce,
            world_size=self._world_size,
            num_steps=self._num_steps,
        )

    @property
    def _judged(self) -> MultiAttributeModel:
        return self._model if self._ema is None else self._ema.module

    def _metrics(self) -> Metrics:
        return Metrics(self._model.attributes, self._model.thresholds)

    def state(self) -> TrainingState:
        """After the last epoch; shares its tensors."""
        return TrainingState(
            fingerprint=self._fingerprint,
            epoch=self.epoch,
            num_steps=self._num_steps,
            model=self._model.state_dict(),
            best=self._best,
            optimizer=self._optimizer.state_dict(),
            schedule=self._schedule.state_dict(),
            scaler=self._scaler.state_dict(),
            weighting=self._weighting.training_state(),
            ema=None if self._ema is None else self._ema.module.state_dict(),
            selection=self._selection.state_dict(),
            history=self._history,
        )

    def load(self, state: TrainingState) -> None:
        """Goes on from a state; it is copied."""
        if state.fingerprint != self._fingerprint:
            raise ConfigError(
                f"the checkpoint belongs to another training (config {state.fingerprint[:12]}, this one is "
                f"{self._fingerprint[:12]}): attributes, heads, backbone, stages and settings have to be the same; "
                "start a new run for other settings"
            )
        self.epoch, self._num_steps = state.epoch, state.num_steps
        self._model.load_state_dict(dict(state.model))
        if self._ema is not None and state.ema is not None:
            self._ema.module.load_state_dict(dict(state.ema))
        self._weighting.load_training_state(state.weighting)
        self._start_stage(stage_at(self._stages, state.epoch - 1))
        self._optimizer.load_state_dict(state.optimizer)
        self._schedule.load_state_dict(state.schedule)
        self._scaler.load_state_dict(state.scaler)
        self._selection.load_state_dict(state.selection)
        self._best = {name: tensor.clone() for name, tensor in state.best.items()}
        self._history = [dict(record) for record in state.history]

    def finish(self) -> FitResult:
        """Puts the best weights into the model."""
        self._model.load_state_dict(self._best)
        self._model.eval()
        assert self._selection.best_value is not None
        return FitResult(
            best_epoch=self._selection.best_epoch,
            objective=self._selection.best_value,
            history=self._history,
            stopped_early=self.epoch < self._num_epochs,
        )


def _copy_to_cpu(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}
