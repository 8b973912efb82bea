"""Thresholds of a trained model, chosen on all of validation by all workers, as a search does for its winner."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from faceattr.config.evaluate import Criterion
from faceattr.evaluation.thresholds import choose_threshold
from faceattr.models.multitask import MultiAttributeModel
from faceattr.training.loop.forward import Forward
from faceattr.training.loop.ranks import Ranks
from faceattr.training.targets import Batch

# Least number of labels of each kind, as in a search.
_LEAST_LABELS = 2


@torch.no_grad()
def fit_thresholds(
    model: MultiAttributeModel,
    batches: Iterable[Batch],
    criterion: Criterion,
    *,
    forward: Forward,
    ranks: Ranks,
) -> dict[str, float]:
    """Returns binary attribute -> best threshold, the same on all ranks; none with too few labels of a kind.

    Args:
        model: the trained model, in evaluation mode, on the device.
        batches: this rank's part of validation, on the CPU.
        criterion: the criterion that the thresholds optimise.
        forward: how images go through the model.
        ranks: this process among the ranks of the training.
    """
    names = [each.name for each in model.attributes.attributes if each.has_threshold]
    own: dict[str, list[Tensor]] = {name: [torch.zeros(0, 2, dtype=torch.float64)] for name in names}
    for batch in batches:
        outputs = forward(model, batch.inputs.to(ranks.device, non_blocking=True))
        for name in names:
            known = batch.targets[name].known
            scores = outputs[name].float().cpu()[known, 0].sigmoid()
            own[name].append(torch.stack([batch.targets[name].value[known], scores], 1).double())
    chosen = {}
    for name in names:
        rows = _gather(torch.cat(own[name]), ranks)
        labels, probabilities = rows[:, 0].numpy().astype(np.int64), rows[:, 1].numpy()
        if min(np.bincount(labels, minlength=2)) >= _LEAST_LABELS:
            chosen[name] = choose_threshold(labels, probabilities, criterion)
    return chosen


def _gather(rows: Tensor, ranks: Ranks) -> Tensor:
    """Returns the rows [n, 2] of all ranks, one rank after the other."""
    counts = torch.zeros(ranks.world_size, dtype=torch.float64)
    counts[ranks.rank] = len(rows)
    ends = ranks.reduce(counts).long().cumsum(0)
    whole = torch.zeros(int(ends[-1]), 2, dtype=torch.float64)
    end = int(ends[ranks.rank])
    whole[end - len(rows) : end] = rows
    return ranks.reduce(whole)
