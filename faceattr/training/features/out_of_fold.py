"""Out-of-fold probabilities: linear heads on features, each row judged by heads that have not learnt from it.

The heads of all folds, with a few strengths of weight decay each, train together as one stack, since they read the same
features: a fold more costs a matrix product. Per attribute, the decay with the least out-of-fold cross entropy counts.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from faceattr.config.fit import OptimConfig
from faceattr.models.multitask import head_key
from faceattr.training.features.stacked import StackedAdamW, StackedHeads

NO_LABEL = -1
"""Class index of a row without a label."""
_DECAYS = (0.1, 1.0, 10.0)
_LEARNING_RATE = 1e-2
_STEPS = 1_000
_STEPS_PER_PASS = 32
_MOST_ROWS_PER_STEP = 4_096


@dataclass(frozen=True, kw_only=True)
class ClassLabels:
    """The labels of one attribute with classes.

    Attributes:
        labels: int64 [n], class indices; NO_LABEL where there is none.
        num_classes: number of classes.
    """

    labels: Tensor
    num_classes: int


def score_out_of_fold(
    features: Tensor, labels: Mapping[str, ClassLabels], folds: Tensor, *, seed: int, device: torch.device
) -> dict[str, Tensor]:
    """Returns, by attribute, the probabilities of each row's classes: float32 [n, classes], on the CPU.

    Args:
        features: float32 [n, F].
        labels: attribute -> its labels.
        folds: int64 [n], the fold of each row; at least two folds.
        seed: random seed of the order of the rows.
        device: where the heads train.
    """
    spread = features.std(0)
    features = (features - features.mean(0)) / torch.where(spread > 0, spread, 1)
    num_folds = int(folds.max()) + 1
    heads = nn.ModuleDict(
        {head_key(name): _zeros(features.shape[1], each.num_classes) for name, each in labels.items()}
    )
    stack = StackedHeads([heads] * (num_folds * len(_DECAYS)), list(labels)).to(device)
    optimizer = StackedAdamW(
        stack,
        [
            OptimConfig(lr=_LEARNING_RATE, weight_decay=decay, clip_norm=None)
            for _ in range(num_folds)
            for decay in _DECAYS
        ],
    )
    held_out = torch.arange(num_folds).repeat_interleave(len(_DECAYS))
    size = min(_MOST_ROWS_PER_STEP, max(1, len(features) // _STEPS_PER_PASS))
    for step, rows in enumerate(_draw_rows(len(features), size, seed)):
        learns = folds[rows] != held_out[:, None]
        losses = _losses(stack, features[rows].to(device), {name: each.labels[rows] for name, each in labels.items()})
        total = torch.zeros((), device=device)
        for name, each in losses.items():
            weights = (learns & (labels[name].labels[rows] != NO_LABEL)).to(device)
            total = total + ((each * weights).sum(1) / weights.sum(1).clamp(min=1)).sum()
        total.backward()
        optimizer.step((1 + math.cos(math.pi * step / _STEPS)) / 2)
    return _judge(stack, features, labels, folds, device=device)


def _zeros(num_features: int, num_classes: int) -> nn.Linear:
    """Returns a head that finds all classes equally likely; it knows nothing of any label."""
    head = nn.Linear(num_features, num_classes)
    with torch.no_grad():
        for weight in head.parameters():
            weight.zero_()
    return head


def _draw_rows(num_rows: int, size: int, seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    step = 0
    while True:
        order = torch.randperm(num_rows, generator=generator)
        for rows in order.split(size):
            if step == _STEPS:
                return
            step += 1
            yield rows


def _losses(stack: StackedHeads, features: Tensor, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the cross entropy of every head and row, float32 [heads, n]; 0 for rows without a label."""
    found = {}
    for name, outputs in stack(features).items():
        targets = labels[name].to(outputs.device).expand(len(outputs), -1)
        found[name] = functional.cross_entropy(outputs.movedim(2, 1), targets, ignore_index=NO_LABEL, reduction="none")
    return found


@torch.no_grad()
def _judge(
    stack: StackedHeads,
    features: Tensor,
    labels: Mapping[str, ClassLabels],
    folds: Tensor,
    *,
    device: torch.device,
) -> dict[str, Tensor]:
    stack.eval()
    kept = {name: torch.empty(len(_DECAYS), len(features), each.num_classes) for name, each in labels.items()}
    for rows in torch.arange(len(features)).split(_MOST_ROWS_PER_STEP):
        for name, outputs in stack(features[rows].to(device)).items():
            by_fold = outputs.float().cpu().unflatten(0, (-1, len(_DECAYS)))
            kept[name][:, rows] = by_fold[folds[rows], :, torch.arange(len(rows))].movedim(1, 0)
    found = {}
    for name, outputs in kept.items():
        targets = labels[name].labels
        losses = torch.stack([functional.cross_entropy(each, targets, ignore_index=NO_LABEL) for each in outputs])
        found[name] = outputs[int(losses.argmin())].softmax(1)
    return found
