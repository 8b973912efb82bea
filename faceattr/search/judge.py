"""Judges a trial on validation: every attribute by a figure that suits it, with cross-fitted thresholds.

    binary      the chosen criterion, each half of validation judged by the threshold chosen on the other half
    multiclass  macro F1, or balanced accuracy if that or youden is the criterion; no threshold
    identity    top-1
    age         share of exact ages within five years, or of ranges that contain the predicted age

Larger is better. All figures but cost (0 or less) and youden (-1 to 1) are between 0 and 1, which makes means over
attributes meaningful.

Also the winner's figures on rows that chose neither its settings nor its thresholds.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from faceattr.attributes import Attribute, AttributeSet
from faceattr.config.evaluate import Criterion
from faceattr.config.search import ObjectiveConfig
from faceattr.errors import ConfigError, RunError
from faceattr.evaluation.thresholds import CrossFit, criterion_value, cross_fit
from faceattr.search.comparison.draws import Resamples, draw_binary, draw_figure, draw_resamples
from faceattr.search.records import Judgement
from faceattr.training.metrics import Metrics, judging_figures
from faceattr.training.targets import Targets

logger = logging.getLogger(__name__)
_LEAST_LABELS = 2
# Of the draws, as they are stored: far below their standard error.
_DECIMALS = 6


class Judge:
    """Judges outputs on validation; picklable.

    Attributes:
        attributes: attributes of the model.
        main: the main attribute, or None if all count.
        criterion: criterion for binary attributes.
    """

    def __init__(self, attributes: AttributeSet, settings: ObjectiveConfig, *, main: str | None, seed: int) -> None:
        """Takes the settings of the search; `seed` draws the halves.

        Raises:
            ConfigError: two objectives are asked for, but there is no main attribute, or no other.
        """
        if settings.two and (main is None or len(attributes.attributes) < 2):
            raise ConfigError(
                "--objective.two: expected a main attribute and others; name it with --objective.main, one of "
                f"{list(attributes.names)}"
            )
        self.attributes, self.main = attributes, main
        self._settings, self._seed = settings, seed
        self.criterion: Criterion = settings.to_criterion()

    def draw_resamples(self, num_rows: int, clusters: np.ndarray | None) -> Resamples:
        """Draws the resamples of validation for all trials; see `faceattr.search.comparison.draws`."""
        return draw_resamples(num_rows, clusters, seed=self._seed)

    def judge(
        self, outputs: Mapping[str, Tensor], targets: Mapping[str, Targets], resamples: Resamples | None = None
    ) -> Judgement:
        """Judges a model by its outputs.

        Args:
            outputs: attribute name -> float32 [n, outputs] on the CPU, of all validation rows.
            targets: attribute name -> labels of the same rows.
            resamples: resamples of the rows, for the judgement's draws.

        Raises:
            RunError: the main attribute, or every attribute, has too few labels in validation.
        """
        values: dict[str, float] = {}
        thresholds: dict[str, float] = {}
        draws: dict[str, np.ndarray] = {}
        for attribute in self.attributes.attributes:
            name = attribute.name
            if attribute.has_threshold:
                known = targets[name].known
                labels = targets[name].value[known].numpy().astype(np.int64)
                found = self._judge_binary(outputs[name][known], labels)
                if found is None:
                    continue
                values[name], thresholds[name] = found.value, found.threshold
                if resamples is not None:
                    rows = torch.nonzero(known)[:, 0].numpy()
                    draws[name] = draw_binary(rows, labels, found.said, self.criterion, resamples)
            else:
                figure, value = self._judge_other(attribute, outputs[name], targets[name])
                if not math.isfinite(value):
                    continue
                values[name] = value
                if resamples is not None:
                    draws[name] = draw_figure(attribute, figure, outputs[name], targets[name], resamples)
        if not values or (self.main is not None and self.main not in values):
            raise RunError(self._describe_lack())
        objective, auxiliary = self._combine(values)
        return Judgement(
            objective=float(objective),
            auxiliary=None if auxiliary is None else float(auxiliary),
            by_attribute=values,
            thresholds=thresholds,
            draws=tuple(np.round(self._combine(draws)[0], _DECIMALS).tolist()) if draws else (),
        )

    def _combine(self, values: Mapping[str, Any]) -> tuple[Any, Any]:
        """Returns the objective, and the mean over the auxiliary attributes or None, of numbers or arrays."""
        others = [value for name, value in values.items() if name != self.main]
        if self.main is None:
            return np.mean(others, axis=0), None
        if not others:
            return values[self.main], None
        auxiliary = np.mean(others, axis=0)
        share = 0.0 if self._settings.two else self._settings.auxiliary_weight
        return (1 - share) * values[self.main] + share * auxiliary, auxiliary

    def check_labels(self, counts: Mapping[str, Mapping[str, int]], figures: Mapping[str, float]) -> None:
        """Refuses data whose validation labels are too few to judge any trial.

        Args:
            counts: attribute name -> label -> number in validation.
            figures: figures of a model that is always right on these labels, NaN if undefined.

        Raises:
            ConfigError: the main attribute, or every attribute, has too few labels.
        """
        judged = []
        for attribute in self.attributes.attributes:
            name = attribute.name
            if attribute.has_threshold:
                enough = min(counts[name].get(label, 0) for label in attribute.classes) >= _LEAST_LABELS
            else:
                enough = any(math.isfinite(figures[f"{name}/{figure}"]) for figure in self.figures_of(attribute))
            judged += [name] if enough else []
        if not judged or (self.main is not None and self.main not in judged):
            raise ConfigError(self._describe_lack())

    def _describe_lack(self) -> str:
        return (
            f"validation has too few labels of {self.main or 'any attribute'} to judge a trial by; pack more data into "
            "the split val, or choose another --objective.main"
        )

    def _judge_binary(self, outputs: Tensor, labels: np.ndarray) -> CrossFit | None:
        if min(labels.sum(), len(labels) - labels.sum()) < _LEAST_LABELS:
            return None
        return cross_fit(labels, outputs[:, 0].float().sigmoid().numpy(), self.criterion, self._seed)

    def _judge_other(self, attribute: Attribute, outputs: Tensor, targets: Targets) -> tuple[str, float]:
        """Returns the name and the value of the first figure that is defined; NaN if none is."""
        metrics = Metrics(AttributeSet(attributes=(attribute,)))
        metrics.add({attribute.name: outputs}, {attribute.name: targets})
        figures = {key.partition("/")[2]: value for key, value in metrics.finish().items()}
        found = [(name, figures[name]) for name in self.figures_of(attribute)]
        return next((each for each in found if math.isfinite(each[1])), ("", math.nan))

    def figures_of(self, attribute: Attribute) -> tuple[str, ...]:
        """Returns the figures that judge an attribute without threshold; the first that is defined counts."""
        return judging_figures(attribute, balanced=self.criterion.name in ("balanced_accuracy", "youden"))


class Recorder(nn.Module):
    """Wraps a network and keeps its outputs in eval mode, so that validation yields them without a second pass."""

    def __init__(self, network: nn.Module, kept: list[dict[str, Tensor]]) -> None:
        super().__init__()
        self.network = network
        # A tuple, so that copies of the module write into the same list.
        self._kept = (kept,)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """Returns the network's outputs."""
        outputs: dict[str, Tensor] = self.network(inputs)
        if not self.training:
            self._kept[0].append({name: each.detach().float().cpu() for name, each in outputs.items()})
        return outputs


def compute_final_figures(
    judge: Judge,
    outputs: Sequence[Mapping[str, Tensor]],
    targets: Sequence[Mapping[str, Targets]],
    thresholds: Mapping[str, float],
) -> dict[str, Any]:
    """Computes figures at given thresholds, as JSON values.

    Args:
        judge: judge of the search.
        outputs: outputs of the batches, attribute name -> [n, outputs] on the CPU.
        targets: labels of the same batches.
        thresholds: binary attribute -> cut that is used; 0.5 by default.

    Returns:
        `by_attribute`: attribute name -> value of the judge's figure, None with too few labels; `figures`: figures of
        `faceattr.training.metrics` at the thresholds; `num_rows`.
    """
    metrics = Metrics(judge.attributes, thresholds)
    for given, labels in zip(outputs, targets, strict=True):
        metrics.add(given, labels)
    figures = {name: value if math.isfinite(value) else None for name, value in metrics.finish().items()}
    values = {}
    for attribute in judge.attributes.attributes:
        name = attribute.name
        if attribute.has_threshold:
            cut = thresholds.get(name, 0.5)
            values[name] = _binary_value(judge, attribute, outputs, targets, cut)
        else:
            defined = [figures[f"{name}/{each}"] for each in judge.figures_of(attribute)]
            values[name] = next((value for value in defined if value is not None), None)
    num_rows = sum(len(next(iter(labels.values()))) for labels in targets)
    return {"by_attribute": values, "figures": figures, "num_rows": num_rows}


def _binary_value(
    judge: Judge,
    attribute: Attribute,
    outputs: Sequence[Mapping[str, Tensor]],
    targets: Sequence[Mapping[str, Targets]],
    threshold: float,
) -> float | None:
    name = attribute.name
    known = torch.cat([each[name].known for each in targets])
    labels = torch.cat([each[name].value for each in targets])[known].numpy().astype(np.int64)
    if not 0 < labels.sum() < len(labels):
        return None
    scores = torch.cat([each[name] for each in outputs])[known, 0].float().sigmoid().numpy()
    return criterion_value(labels, scores, threshold, judge.criterion)
