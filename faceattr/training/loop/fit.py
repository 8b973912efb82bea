"""The training loop: stages of epochs, validation, the best epoch. It is independent of any cluster.

    for each stage: freeze, optimizer, schedule
        for each epoch: train, validate, keep the best, report; stop early in the last stage
    restore the best

All random numbers of an epoch depend only on (seed, epoch, rank), and the data are requested by epoch number, so that a
resumed training continues as if it had not stopped.
"""

import copy
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from faceattr.config.fit import FitConfig, compute_fingerprint
from faceattr.errors import ConfigError
from faceattr.models.augment.draws import image_seed
from faceattr.models.freezing import freeze
from faceattr.models.multitask import MultiAttributeModel
from faceattr.models.schedules import Stage, stage_at
from faceattr.models.weights import load_exactly
from faceattr.training.loop.compiled import CompiledNetwork
from faceattr.training.loop.epoch import train_epoch, validate, validation_figures
from faceattr.training.loop.forward import Forward
from faceattr.training.loop.optim import (
    Schedule,
    build_ema,
    build_optimizer,
    build_scaler,
    build_swa,
    inherit_moments,
    load_optimizer_state,
    rate_share,
    update_swa,
)
from faceattr.training.loop.ranks import Ranks, average_buffers
from faceattr.training.loop.selection import Selection
from faceattr.training.loop.state import EpochRecord, FitResult, Kept, Report, TrainingState
from faceattr.training.loop.step import TrainedParts, TrainStep
from faceattr.training.losses.consistency import build_consistency
from faceattr.training.losses.multi_loss import build_objective
from faceattr.training.losses.weighting import LossWeighting
from faceattr.training.metrics import Metrics
from faceattr.training.targets import Batch

Wrap = Callable[[Any], nn.Module]
Improved = Callable[[MultiAttributeModel, int, int], None]
"""Called on every rank with the best model so far in evaluation mode, which must not be changed, the number of its
epoch, from 1, and the number of all epochs."""


@dataclass(frozen=True, kw_only=True)
class EpochBatches:
    """Batches of a training, on the CPU.

    Attributes:
        train: epoch number, from 0 -> this rank's training batches.
        val: returns this rank's validation batches; their number may differ between ranks.
        num_train: number of training batches in an epoch, for the learning rate.
        on_device: completes a training batch once it is on the device; see `Batch.seeds`.
    """

    train: Callable[[int], Iterable[Batch]]
    val: Callable[[], Iterable[Batch]]
    num_train: int
    on_device: Callable[[Batch], Batch] = lambda batch: batch


def fit(
    model: MultiAttributeModel,
    batches: EpochBatches,
    config: FitConfig,
    *,
    counts: Mapping[str, Tensor],
    ranks: Ranks,
    stages: Sequence[Stage] | None = None,
    network: Wrap = lambda model: model,
    compiled: bool = False,
    report: Report | None = None,
    improved: Improved | None = None,
    state: TrainingState | None = None,
    origin: tuple[TrainingState, Kept] | None = None,
) -> FitResult:
    """Trains a model and leaves it with the weights of its best epoch, in evaluation mode.

    Args:
        model: model on any device; its parts are moved. Under DDP it must be equal on all ranks.
        batches: batches of this rank.
        config: settings.
        counts: attribute name -> number of labels by class in the training data of all ranks, from `LabelTotals`.
        ranks: the processes of the training, and which of them this is.
        stages: stages of the training; their epochs and learning rates replace those in `config.optim`. By default one
            stage with the blocks that are frozen now.
        network: model -> network for the inputs, called after each freeze: the model itself, or its suffix if inputs
            are activations at a boundary.
        compiled: whether the network is compiled for training, once per stage.
        report: called with the record and the state of each epoch, on every rank.
        improved: called on every rank after each epoch that is the best so far, before `report`; at the start with the
            best epoch of the origin, if it still counts.
        state: state to resume from.
        origin: without a state: that of a training with other settings to start from, and what of it is kept.

    Returns:
        The best epoch and the records of all epochs.

    Raises:
        ConfigError: the config does not fit the model, the state belongs to another config, or the selection metric is
            undefined.
        ModelError: the network cannot be compiled, or the weights of the origin do not fit the model.
        DivergedError: a loss, in training or validation, is not finite.
        RunError: a worker has no data.
    """
    training = _Training(
        model,
        config,
        counts=counts,
        steps_per_epoch=-(-batches.num_train // config.optim.accumulation),
        ranks=ranks,
        stages=stages,
        network=network,
        compiled=compiled,
    )
    if state is not None:
        training.load(state)
    elif origin is not None:
        training.inherit(*origin)
        if improved is not None and origin[1].best:
            improved(training.copy_best(), training.best_epoch + 1, training.num_epochs)
    while not training.is_over:
        with torch.random.fork_rng(devices=[ranks.device] if ranks.device.type == "cuda" else []):
            torch.manual_seed(image_seed(config.seed, epoch=training.epoch, row=ranks.rank))
            record = training.run_epoch(batches)
        if improved is not None and training.has_improved:
            improved(training.judged.eval(), training.epoch, training.num_epochs)
        if report is not None:
            report(record, training.state())
    return training.finish()


class _Training:
    """Parts and progress of a training.

    Attributes:
        epoch: number of finished epochs.
        num_epochs: number of epochs of all stages.
    """

    _step: TrainStep

    def __init__(
        self,
        model: MultiAttributeModel,
        config: FitConfig,
        *,
        counts: Mapping[str, Tensor],
        steps_per_epoch: int,
        ranks: Ranks,
        stages: Sequence[Stage] | None,
        network: Wrap,
        compiled: bool,
    ) -> None:
        optim = config.optim
        self._compiled = compiled
        self.epoch = 0
        self._steps_per_epoch = steps_per_epoch
        self._model, self._config, self._ranks, self._wrap = model, config, ranks, network
        self._stages = stages or (
            Stage(num_epochs=optim.epochs, freeze_depth=model.backbone.frozen_depth, lr=optim.lr),
        )
        self.num_epochs = sum(stage.num_epochs for stage in self._stages)
        # Denominators are computed from labels on the CPU, so that no step waits for the device.
        self._cpu_objective = build_objective(model.attributes, model.head_configs, config.loss, counts)
        self._objective = copy.deepcopy(self._cpu_objective).to(ranks.device)
        self._weighting = LossWeighting(config.loss, self._cpu_objective.loss_weights).to(ranks.device)
        self._consistency = build_consistency(model, config.loss)
        self._selection = Selection(config.select, validation_figures(self._metrics()))
        self._forward = Forward(model.backbone.preprocessing, precision=optim.precision, device=ranks.device)
        self._scaler = build_scaler(self._forward.precision, ranks.device)
        freeze(model, self._stages[0].freeze_depth)
        # Only the suffix moves: the frozen prefix stays where it is.
        network(model).to(ranks.device, memory_format=torch.channels_last)  # type: ignore[call-overload] # not in its stubs
        self._ema, self._swa = build_ema(model, optim), build_swa(model, optim)
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
        """Whether no epoch is left, or patience is exhausted in the last stage."""
        in_last = self.epoch > 0 and stage_at(self._stages, self.epoch - 1) == len(self._stages) - 1
        return self.epoch >= self.num_epochs or (in_last and self._selection.is_over)

    @property
    def best_epoch(self) -> int:
        """Number of the best epoch so far, from 0."""
        return self._selection.best_epoch

    @property
    def has_improved(self) -> bool:
        """Whether the last epoch is the best so far."""
        return self.best_epoch == self.epoch - 1

    def copy_best(self) -> MultiAttributeModel:
        """Returns a model with the weights of the best epoch, in evaluation mode."""
        model = copy.deepcopy(self._model)
        model.load_state_dict(self._best)
        return model.eval()

    def run_epoch(self, batches: EpochBatches) -> EpochRecord:
        """Trains and validates one epoch."""
        stage = stage_at(self._stages, self.epoch)
        if self.epoch == 0 or stage != stage_at(self._stages, self.epoch - 1):
            self._start_stage(stage)
        self._step.parts.network.train()
        trained = train_epoch(
            self._step,
            batches.train(self.epoch),
            self._cpu_objective,
            on_device=batches.on_device,
            accumulation=self._config.optim.accumulation,
            ranks=self._ranks,
            epoch=self.epoch,
        )
        self._num_steps = self._step.num_steps
        self._weighting.end_epoch()
        if self._ranks.world_size > 1:
            averaged = [self._model] if self._ema is None else [self._model, self._ema.module]
            average_buffers(averaged, self._ranks.reduce)
        if self._swa is not None:
            update_swa(self._swa, self._model, self._config.optim, epoch=self.epoch, epochs=self.num_epochs)
        started_s = time.perf_counter()
        figures = validate(
            self._wrap(self.judged),
            batches.val(),
            self._cpu_objective,
            self._metrics(),
            forward=self._forward,
            ranks=self._ranks,
            epoch=self.epoch,
        )
        value = self._selection.value_of(figures, self.epoch)
        if self._selection.update(value, self.epoch):
            self._best = _copy_to_cpu(self.judged)
        schedule = self._step.parts.schedule
        record = {"epoch": float(self.epoch), "stage": float(stage), "lr": schedule.lr, "objective": value}
        record |= trained | {f"val/{name}": figure for name, figure in figures.items()}
        record |= {"val_s": time.perf_counter() - started_s, "ended": time.time()}
        schedule.after_epoch(value)
        self._history.append(record)
        self.epoch += 1
        return record

    def _start_stage(self, stage: int) -> None:
        config, depth, lr = self._config, self._stages[stage].freeze_depth, self._stages[stage].lr
        freeze(self._model, depth)
        if self._average is not None:
            freeze(self._average, depth)
        self._selection.start_stage()
        optimizer = build_optimizer(
            self._model,
            config.optim,
            lr=lr,
            extra=self._weighting.trained_parameters(),
            extra_lr=config.loss.weighting_lr,
        )
        schedule = Schedule(
            optimizer,
            config.optim,
            steps_per_epoch=self._steps_per_epoch,
            num_epochs=self._stages[stage].num_epochs,
            larger_is_better=self._selection.larger_is_better,
        )
        network = self._wrap(self._model)
        if self._compiled:
            network = CompiledNetwork(network, one_shape=self._ranks.world_size == 1)
        parts = TrainedParts(
            model=self._model,
            network=self._ranks.distribute(network),
            objective=self._objective,
            weighting=self._weighting,
            optimizer=optimizer,
            schedule=schedule,
            scaler=self._scaler,
            ema=self._ema,
            consistency=self._consistency,
        )
        self._step = TrainStep(parts, config.optim, forward=self._forward, ranks=self._ranks, num_steps=self._num_steps)

    @property
    def judged(self) -> MultiAttributeModel:
        """The model that is validated and saved: with the average of the weights, if one is kept."""
        return self._model if self._average is None else self._average

    @property
    def _average(self) -> MultiAttributeModel | None:
        average = next((each.module for each in (self._ema, self._swa) if each is not None), None)
        assert average is None or isinstance(average, MultiAttributeModel)
        return average

    def _metrics(self) -> Metrics:
        return Metrics(self._model.attributes, self._model.thresholds)

    def state(self) -> TrainingState:
        """Returns the state after the last epoch; it shares the tensors in use."""
        return TrainingState(
            fingerprint=self._fingerprint,
            epoch=self.epoch,
            num_steps=self._num_steps,
            model=self._model.state_dict(),
            best=self._best,
            optimizer=self._step.parts.optimizer.state_dict(),
            schedule=self._step.parts.schedule.state_dict(),
            scaler=self._scaler.state_dict(),
            weighting=self._weighting.training_state(),
            ema=None if self._average is None else self._average.state_dict(),
            selection=self._selection.state_dict(),
            history=self._history,
        )

    def load(self, state: TrainingState) -> None:
        """Resumes from a state, which is copied."""
        if state.fingerprint != self._fingerprint:
            raise ConfigError(
                f"the checkpoint belongs to another training (config {state.fingerprint[:12]}, this one is "
                f"{self._fingerprint[:12]}): attributes, heads, backbone, stages and settings have to be the same; "
                "start a new run for other settings"
            )
        self.epoch, self._num_steps = state.epoch, state.num_steps
        self._model.load_state_dict(dict(state.model))
        if self._average is not None and state.ema is not None:
            self._average.load_state_dict(dict(state.ema))
        self._weighting.load_training_state(state.weighting)
        self._start_stage(stage_at(self._stages, state.epoch - 1))
        load_optimizer_state(self._step.parts.optimizer, state.optimizer)
        self._step.parts.schedule.load_state_dict(state.schedule)
        self._scaler.load_state_dict(state.scaler)
        self._selection.load_state_dict(state.selection)
        self._best = {name: tensor.clone() for name, tensor in state.best.items()}
        self._history = [dict(record) for record in state.history]

    def inherit(self, state: TrainingState, kept: Kept) -> None:
        """Starts after the epochs of a training with other settings; takes over what is still valid, which is copied.

        Patience starts again, as in a stage, because something else trains now.
        """
        self.epoch, self._num_steps = state.epoch, state.num_steps
        load_exactly(self._model, state.model, "the checkpoint of the earlier training")
        if self._ema is not None:
            self._ema.module.load_state_dict(dict(state.model if state.ema is None else state.ema))
        if kept.weighting:
            self._weighting.load_training_state(state.weighting)
        stage = stage_at(self._stages, state.epoch - 1)
        self._start_stage(stage)
        if kept.moments:
            inherit_moments(self._step.parts.optimizer, state.optimizer)
        if kept.scale:
            self._scaler.load_state_dict(state.scaler)
        past = state.epoch - sum(each.num_epochs for each in self._stages[:stage])
        self._step.parts.schedule.start_at(
            past * self._steps_per_epoch,
            share=rate_share(state.optimizer),
            seen=state.schedule["plateau"] if kept.best else None,
        )
        if kept.best:
            self._selection.load_state_dict({**state.selection, "num_stale": 0})
            self._best = {name: tensor.clone() for name, tensor in state.best.items()}
            self._history = [dict(record) for record in state.history]

    def finish(self) -> FitResult:
        """Loads the best weights into the model."""
        self._model.load_state_dict(self._best)
        self._model.eval()
        assert self._selection.best_value is not None
        return FitResult(
            best_epoch=self._selection.best_epoch,
            objective=self._selection.best_value,
            history=self._history,
            stopped_early=self.epoch < self.num_epochs,
        )


def _copy_to_cpu(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}
