"""What the winner is worth on rows that chose nothing: neither its settings nor its thresholds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from faceattr.attributes import Attribute
from faceattr.evaluation.thresholds import criterion_value
from faceattr.search.judge import Judge
from faceattr.training.metrics import Metrics
from faceattr.training.targets import Targets


def compute_final_figures(
    judge: Judge,
    outputs: Sequence[Mapping[str, Tensor]],
    targets: Sequence[Mapping[str, Targets]],
    thresholds: Mapping[str, float],
) -> dict[str, Any]:
    """Figures at given thresholds; JSON values.

    Args:
        judge: of the search.
        outputs: of batches, attribute name -> [n, outputs] on the CPU.
        targets: labels of the same batches.
        thresholds: binary attribute -> cut that is used; 0.5 by default.

    Returns:
        `by_attribute`, attribute name -> value as the judge has it, None where labels are too few; `figures`, those of
        `faceattr.training.metrics` at the thresholds; `num_rows`.
    """
    metrics = Metrics(judge.attributes, thresholds)
    for given, labels in zip(outputs, targets, strict=True):
        metrics.add(given, labels)
    figures = {name: value if math.isfinite(value) else None for name, value in metrics.finish().items()}
    values = {}
    for attribute in judge.attributes.attributes:
        name = attribute.name
        if attribute.kind == "binary":
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
