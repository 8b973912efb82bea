"""`fit` for many trials at once: heads on cached features, with a learning rate and loss weights per trial.

The trials of a stack have equal settings except for those in `_FREE`. Each trial gets the same numbers as in `fit`
alone, up to rounding; a trial that diverges or stops early does not affect the others.
"""

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.optim import SGD

from faceattr.config.fit import FitConfig
from faceattr.models.augment.draws import image_seed
from faceattr.models.multitask import MultiAttributeModel
from faceattr.training.features.stacked import StackedAdamW, StackedHeads
from faceattr.training.loop.epoch import validation_figures
from faceattr.training.loop.fit import EpochBatches
from faceattr.training.loop.forward import cast_to, prepare_precision
from faceattr.training.loop.optim import Schedule
from faceattr.training.loop.selection import Selection
from faceattr.training.loop.state import EpochRecord
from faceattr.training.losses.multi_loss import MultiAttributeLoss, build_objective, compute_loss_weights
from faceattr.training.metrics import Metrics
from faceattr.training.targets import Batch, Targets

# Settings that may differ within a stack: (group, field).
_FREE = {"loss": ("main", "label_weight", "aux_weight", "weights"), "optim": ("lr", "weight_decay")}


@dataclass(kw_only=True)
class StackedTrial:
    """Result of one trial of a stack.

    Attributes:
        best_epoch: best epoch, from 0.
        objective: selection metric of the best epoch.
        history: records as in `fit`; the figures of `Metrics` are only included if one of them is the selection metric.
        heads: state dict of the heads of the best epoch.
        error: why the trial failed; the other fields then have their values up to that point.
    """

    best_epoch: int = -1
    objective: float = math.nan
    history: list[EpochRecord]
    heads: dict[str, Tensor]
    error: str | None = None


def why_not_stacked(config: FitConfig) -> str | None:
    """Returns the first setting that stacked training does not support, or None."""
    optim = config.optim
    for holds, what in (
        (optim.name == "adamw", f"--optim.name {optim.name}"),
        (optim.schedule != "plateau", "--optim.schedule plateau"),
        (optim.accumulation == 1, "--optim.accumulation"),
        (optim.ema_decay is None, "--optim.ema-decay"),
        # float16 needs loss scaling, whose skipped steps would be common to all trials.
        (optim.precision != "float16", f"--optim.precision {optim.precision}"),
        (not optim.mixup_alpha, "--optim.mixup-alpha"),
        (not optim.cutmix_alpha, "--optim.cutmix-alpha"),
        (not optim.swa_epochs, "--optim.swa-epochs"),
        (not config.loss.consistency, "--loss.consistency"),
        (config.loss.weighting == "constant", f"--loss.weighting {config.loss.weighting}"),
    ):
        if not holds:
            return what
    return None


def shared_settings(config: FitConfig) -> FitConfig:
    """Returns the config without the settings that may differ; trials with equal results can be stacked."""
    plain = FitConfig()
    for group, names in _FREE.items():
        default = getattr(plain, group)
        changed = replace(getattr(config, group), **{name: getattr(default, name) for name in names})
        config = replace(config, **{group: changed})
    return config


def fit_stacked(
    model: MultiAttributeModel,
    batches: EpochBatches,
    configs: Sequence[FitConfig],
    *,
    counts: Mapping[str, Tensor],
    device: torch.device,
    report: Callable[[int, Sequence[StackedTrial]], None] | None = None,
) -> list[StackedTrial]:
    """Trains the heads of a model once per config.

    Args:
        model: model whose heads are the start of every trial; it is not changed.
        batches: batches of features, float32 [n, F].
        configs: configs of the trials; equal in `shared_settings`, and `why_not_stacked` returns None for each.
        counts: attribute name -> number of training labels by class.
        device: where the heads are trained.
        report: called after each epoch with the number of finished epochs and the trials so far.

    Returns:
        One result per config, in order.

    Raises:
        ConfigError: a config does not fit the model.
    """
    stack = _Stack(model, configs, counts=counts, steps_per_epoch=batches.num_train, device=device)
    for epoch in range(configs[0].optim.epochs):
        if stack.is_over:
            break
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(image_seed(configs[0].seed, epoch=epoch, row=0))
            stack.train_epoch(batches.train(epoch))
        stack.validate(batches.val(), epoch)
        if report is not None:
            report(epoch + 1, stack.trials)
    return stack.trials


class _Stack:
    """Parts and progress of a stacked training."""

    def __init__(
        self,
        model: MultiAttributeModel,
        configs: Sequence[FitConfig],
        *,
        counts: Mapping[str, Tensor],
        steps_per_epoch: int,
        device: torch.device,
    ) -> None:
        config = configs[0]
        self.trials = [StackedTrial(history=[], heads={}) for _ in configs]
        self._model, self._device = model, device
        self._precision = prepare_precision(config.optim.precision, device)
        self._cpu_objective = build_objective(model.attributes, model.head_configs, config.loss, counts)
        self._objective = copy.deepcopy(self._cpu_objective).to(device)
        weights = [compute_loss_weights(model.attributes.names, each.loss) for each in configs]
        self._loss_weights = torch.stack(weights).to(device)
        self._heads = StackedHeads([model.heads] * len(configs), model.attributes.names).to(device)
        self._optimizer = StackedAdamW(self._heads, [each.optim for each in configs])
        self._peaks = [each.optim.lr for each in configs]
        # With a learning rate of 1 the schedule returns factors.
        unit_lr = SGD([{"params": [nn.Parameter(torch.zeros(1))], "initial_lr": 1.0, "name": "heads"}], lr=1.0)
        self._schedule = Schedule(
            unit_lr,
            config.optim,
            steps_per_epoch=steps_per_epoch,
            num_epochs=config.optim.epochs,
            larger_is_better=False,
        )
        figures = validation_figures(Metrics(model.attributes, model.thresholds))
        self._selections = [Selection(each.select, figures) for each in configs]
        chosen = config.select.combine or [config.select.metric]
        self._needs_metrics = any(name.rpartition("/")[2] != "loss" for name in chosen)
        self._train_losses = self._train_labels = torch.zeros(0)

    @property
    def is_over(self) -> bool:
        """Whether all trials have ended."""
        return not self._running()

    def _running(self) -> list[int]:
        return [
            index
            for index, trial in enumerate(self.trials)
            if trial.error is None and not self._selections[index].is_over
        ]

    def train_epoch(self, batches: Iterable[Batch]) -> None:
        """Takes one step per batch."""
        self._heads.train()
        sums = torch.zeros(len(self.trials), len(self._objective.names), device=self._device, dtype=torch.float64)
        totals = torch.zeros(len(self._objective.names), dtype=torch.float64)
        for batch in batches:
            denominators = self._cpu_objective.sum_weights(batch.targets)
            losses = self._losses(batch, denominators)
            (self._loss_weights * losses).sum().backward()
            self._schedule.before_step()
            self._optimizer.step(self._schedule.lr)
            sums += losses.detach() * denominators.to(self._device)
            totals += denominators
        self._train_losses, self._train_labels = sums.cpu() / totals, totals

    def _losses(self, batch: Batch, denominators: Tensor) -> Tensor:
        """Returns each trial's normalised loss per attribute, float32 [T, A]; 0 if the batch has no label."""
        outputs = self._run_heads(batch)
        targets = {name: each.to(self._device) for name, each in batch.targets.items()}
        return _sum_losses(self._objective, outputs, targets, denominators)

    def _run_heads(self, batch: Batch) -> dict[str, Tensor]:
        """Returns attribute name -> [T, n, outputs] on the device, in the configured precision."""
        with cast_to(self._precision, self._device):
            outputs: dict[str, Tensor] = self._heads(batch.inputs.to(self._device, non_blocking=True))
        return outputs

    @torch.no_grad()
    def validate(self, batches: Iterable[Batch], epoch: int) -> None:
        """Validates all trials, and keeps the weights of those that have improved."""
        self._heads.eval()
        running = self._running()
        names = self._objective.names
        sums = torch.zeros(len(self.trials), len(names), dtype=torch.float64)
        totals = torch.zeros(len(names), dtype=torch.float64)
        metrics = {index: self._metrics() for index in running} if self._needs_metrics else {}
        for batch in batches:
            outputs = {name: each.float().cpu() for name, each in self._run_heads(batch).items()}
            sums += _sum_losses(self._cpu_objective, outputs, batch.targets, torch.ones(len(names)))
            totals += self._cpu_objective.sum_weights(batch.targets)
            for index, each in metrics.items():
                if all(bool(output[index].isfinite().all()) for output in outputs.values()):
                    each.add({name: output[index] for name, output in outputs.items()}, batch.targets)
        losses = sums / totals
        for index in running:
            trained = self._train_losses[index]
            diverged = ~trained.isfinite() & (self._train_labels > 0) | ~losses[index].isfinite() & (totals > 0)
            if diverged.any():
                self.trials[index].error = (
                    f"epoch {epoch}: the loss of attribute {names[int(diverged.nonzero()[0])]!r} is not finite. "
                    "Training diverged: lower --optim.lr, or set --optim.clip-norm"
                )
                continue
            figures = self._figures(losses[index], totals > 0, index)
            if index in metrics:
                figures |= metrics[index].finish()
            self._update(index, figures, epoch)

    def _figures(self, losses: Tensor, labelled: Tensor, index: int) -> dict[str, float]:
        weighted = (losses * self._loss_weights[index].double().cpu())[labelled]
        named = zip(self._objective.names, losses.tolist(), strict=True)
        return {"loss": float(weighted.sum()), **{f"{name}/loss": loss for name, loss in named}}

    def _update(self, index: int, figures: Mapping[str, float], epoch: int) -> None:
        trial, selection = self.trials[index], self._selections[index]
        value = selection.value_of(figures, epoch)
        train = dict(zip(self._objective.names, self._train_losses[index].tolist(), strict=True))
        record = {"epoch": float(epoch), "lr": self._peaks[index] * self._schedule.lr, "objective": value}
        record |= {f"train/{name}/loss": loss for name, loss in train.items()}
        trial.history.append(record | {f"val/{name}": figure for name, figure in figures.items()})
        if selection.update(value, epoch):
            trial.best_epoch, trial.objective = epoch, value
            trial.heads = self._heads.state_of(index)

    def _metrics(self) -> Metrics:
        return Metrics(self._model.attributes, self._model.thresholds)


def _sum_losses(
    objective: MultiAttributeLoss,
    outputs: Mapping[str, Tensor],
    targets: Mapping[str, Targets],
    denominators: Tensor,
) -> Tensor:
    """Computes `MultiAttributeLoss.forward` for outputs [T, n, outputs]: float32 [T, A]."""
    sums = []
    for name in objective.names:
        num_trials = len(outputs[name])
        rows = outputs[name].flatten(0, 1)
        losses = objective.loss_of(name).losses(rows, _repeat(targets[name], num_trials))
        sums.append(losses.view(num_trials, -1).sum(1))
    divisors = denominators.to(sums[0])
    return torch.stack(sums, 1) / torch.where(divisors > 0, divisors, 1) / objective.priors.to(sums[0])


def _repeat(targets: Targets, times: int) -> Targets:
    """Repeats the rows once per trial."""
    return targets.map(lambda each: each.repeat(times, *[1] * (each.ndim - 1)))
