"""Label counts, and class weights computed from them.

    balanced    w_c ~ 1 / n_c                                    sklearn's `balanced`
    effective   w_c ~ (1 - b) / (1 - b^n_c), b = 1 - 1 / N       Cui et al. 2019, class-balanced loss
    root        w_c ~ 1 / sqrt(n_c)                              halfway to balanced on the log scale

Class weights have mean 1 over the labels, and are 0 for classes without labels.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from faceattr.attributes import Attribute, AttributeSet
from faceattr.errors import ConfigError
from faceattr.training.age import years_within
from faceattr.training.targets import Targets, count_bins

WeightKind = Literal["root", "balanced", "effective"]


class LabelTotals:
    """Counts labels: exact ones as 1, soft ones by their scores; coarse ones and age ranges are spread evenly.

    Attributes:
        counts: attribute name -> float64 [classes]: no and yes for binary, the 117 years for an age.
    """

    def __init__(self, attributes: AttributeSet) -> None:
        self._attributes = attributes
        self.counts = {each.name: torch.zeros(count_bins(each), dtype=torch.float64) for each in attributes.attributes}

    def add(self, targets: Mapping[str, Targets]) -> None:
        """Counts a batch, which must be on the CPU."""
        for attribute in self._attributes.attributes:
            self.counts[attribute.name] += _count(attribute, targets[attribute.name])

    def check(self) -> None:
        """Raises ConfigError with the names of attributes without any label, which cannot be trained."""
        empty = [name for name, counts in self.counts.items() if not counts.sum() > 0]
        if empty:
            raise ConfigError(
                f"attributes {empty}: the training data has no label of them; leave them out of the model"
            )


def _count(attribute: Attribute, targets: Targets) -> Tensor:
    shares = targets.value.new_zeros(len(targets), count_bins(attribute), dtype=torch.float64)
    if targets.coarse is not None:
        shares += _shared_evenly(targets.coarse)
    known = targets.known
    if attribute.is_years:
        shares[known] = _shared_evenly(years_within(targets.value[known]))
    else:
        shares[known] = torch.nn.functional.one_hot(targets.value[known].long(), shares.shape[1]).double()
    if targets.score is not None:
        score = targets.score.double()
        score = torch.stack([1 - score, score], 1) if score.ndim == 1 else score
        scored = ~score.isnan().any(1)
        shares[scored] = score[scored]
    return shares.sum(0)


def _shared_evenly(possible: Tensor) -> Tensor:
    return possible.double() / possible.sum(1, keepdim=True).clamp(min=1)


def compute_class_weights(counts: Tensor, kind: WeightKind, *, max_ratio: float = 100.0) -> Tensor:
    """Computes class weights from label counts.

    Args:
        counts: [C], at least one positive.
        kind: formula; see the module docstring.
        max_ratio: largest allowed ratio of the rarest class's weight to the most frequent one's.

    Returns:
        float32 [C]; mean 1 over the labels.
    """
    counts = counts.double()
    present = counts > 0
    if not present.any():
        raise ConfigError("class weights need at least one label")
    safe = counts.clamp(min=1e-12)
    if kind == "balanced":
        weights = 1 / safe
    elif kind == "root":
        weights = safe.rsqrt()
    else:
        beta = 1 - 1 / counts.sum().clamp(min=2)
        weights = (1 - beta) / (1 - beta**safe)
    weights = torch.where(present, weights, 0)
    weights = weights.clamp(max=weights[present].min() * max_ratio)
    return (weights * counts.sum() / (weights * counts).sum()).float()


def compute_pos_weight(counts: Tensor, kind: WeightKind = "balanced", *, max_ratio: float = 100.0) -> Tensor:
    """Returns the weight of a yes relative to a no, float32 [], for counts [no, yes]; if balanced, no / yes.

    It is between 1 / `max_ratio` and `max_ratio`, and 1 if one label is absent.
    """
    if not (counts > 0).all():
        return torch.tensor(1.0)
    no, yes = compute_class_weights(counts, kind, max_ratio=max_ratio)
    return yes / no
