"""The loss of one attribute over rows, some of which have no label.

A loss returns numerators and denominators separately, so that they can be summed over batches and ranks before the
division:

    loss = sum_i losses_i / sum_i weights_i

Both are 0 in rows without a label, so the loss equals the loss of the labelled rows alone.
"""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import assert_never

import torch
from timm.loss import AsymmetricLossMultiLabel
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from faceattr.attributes import Attribute
from faceattr.config.fit import ClassWeighting, LossConfig
from faceattr.models.heads import NUM_YEARS, AgeOutput
from faceattr.training.age import spread_ages, years_within
from faceattr.training.losses.class_weights import WeightKind, compute_class_weights, compute_pos_weight
from faceattr.training.losses.ordinal import compute_ordinal_scale, ordinal_cross_entropy
from faceattr.training.losses.robust import compute_robust_loss, compute_robust_marginal
from faceattr.training.losses.soft_labels import learnt_scores, weigh_scores
from faceattr.training.targets import Targets

# Priors are divisors of losses. Without this bound an attribute with nearly equal labels would dominate the others.
_SMALLEST_PRIOR = 0.01
_TINY = 1e-12
_WEIGHT_KINDS: dict[ClassWeighting, WeightKind] = {"root": "root", "balanced": "balanced", "effective": "effective"}


class AttributeLoss(nn.Module, ABC):
    """Numerators and denominators of one attribute's loss.

    Attributes:
        is_entropy: whether the loss is in nats, as cross entropies are, and so comparable with them.
    """

    is_entropy = True

    @abstractmethod
    def weights(self, targets: Targets) -> Tensor:
        """Returns each row's weight: float32 [n], 0 if the row has nothing to learn. Independent of the model."""

    @abstractmethod
    def losses(self, outputs: Tensor, targets: Targets) -> Tensor:
        """Returns each row's weighted loss: float32 [n], 0 if its weight is 0; outputs are [n, outputs], any float."""

    @abstractmethod
    def constant_outputs(self, counts: Tensor) -> Tensor:
        """Returns the best constant outputs of a head given the label counts [C]: float32 [outputs]."""

    @abstractmethod
    def examples(self) -> Targets:
        """Returns one row per counted label."""

    def compute_prior(self, counts: Tensor) -> float:
        """Returns the loss of `constant_outputs` on the counted labels: their entropy, or the age variance in years."""
        targets = self.examples()
        outputs = self.constant_outputs(counts).expand(len(targets), -1)
        total = (counts * self.losses(outputs, targets)).sum() / (counts * self.weights(targets)).sum()
        return max(float(total), _SMALLEST_PRIOR)


class BinaryLoss(AttributeLoss):
    """Cross entropy of one logit, or its asymmetric (timm), focal (torchvision) or robust variant.

    If there is a score, it is the target, with a weight of `weigh_scores`. `pos_weight` multiplies the
    loss term of the positive class, as in `torch.nn.BCEWithLogitsLoss`; the focal loss has its alpha instead.
    """

    pos_weight: Tensor

    def __init__(self, config: LossConfig, pos_weight: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("pos_weight", torch.tensor(1.0) if pos_weight is None else pos_weight)
        negative, positive = config.asymmetric_gammas
        self._asymmetric = AsymmetricLossMultiLabel(
            gamma_neg=negative, gamma_pos=positive, reduction="none", pos_weight=self.pos_weight
        )

    def weights(self, targets: Targets) -> Tensor:
        """See the base class."""
        known = targets.known.float()
        score = learnt_scores(targets, self.config)
        return known if score is None else torch.where(score.isnan(), known, weigh_scores(targets, score, self.config))

    def losses(self, outputs: Tensor, targets: Targets) -> Tensor:
        """See the base class."""
        config, logits = self.config, outputs.float()[:, 0]
        target = targets.value
        score = learnt_scores(targets, config)
        if score is not None:
            target = torch.where(score.isnan(), target, score)
        if config.robust != "off":
            log_p = torch.stack([functional.logsigmoid(-logits), functional.logsigmoid(logits)], 1)
            class_weights = torch.stack([torch.ones_like(self.pos_weight), self.pos_weight])
            loss = compute_robust_loss(log_p, torch.stack([1 - target, target], 1), class_weights, config)
            return loss * self.weights(targets)
        target = target * (1 - config.label_smoothing) + 0.5 * config.label_smoothing
        match config.binary:
            case "bce":
                loss = functional.binary_cross_entropy_with_logits(
                    logits, target, pos_weight=self.pos_weight, reduction="none"
                )
            case "asymmetric":
                loss = self._asymmetric(logits[:, None], target[:, None])[:, 0]
            case "focal":
                loss = sigmoid_focal_loss(logits, target, alpha=config.focal_alpha, gamma=config.focal_gamma)
        return loss * self.weights(targets)

    def constant_outputs(self, counts: Tensor) -> Tensor:
        """See the base class; returns the log odds of yes."""
        smoothing = self.config.label_smoothing
        no, yes = (counts * (1 - smoothing) + counts.sum() * smoothing / 2).clamp(min=_TINY)
        return (self.pos_weight * yes / no).log().float().reshape(1)

    def examples(self) -> Targets:
        """See the base class; one no and one yes."""
        return Targets(value=torch.tensor([0.0, 1.0]), known=torch.ones(2, dtype=torch.bool), weight=torch.ones(2))


class ClassLoss(AttributeLoss):
    """Cross entropy over classes, or its robust variant, for multiclass and identity attributes.

    exact    -w_y log p_y                          as torch.nn.CrossEntropyLoss, including label smoothing
    soft     -sum_c w_c s_c log p_c
    coarse   -w log sum_{c possible} p_c           marginal likelihood; w is the mean weight of these classes

    Of classes in an order, -log p_c is replaced by the loss of `faceattr.training.losses.ordinal`.
    """

    class_weights: Tensor

    def __init__(
        self,
        config: LossConfig,
        num_classes: int,
        class_weights: Tensor | None = None,
        *,
        ordinal_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self._ordinal_scale = ordinal_scale
        self.register_buffer("class_weights", torch.ones(num_classes) if class_weights is None else class_weights)

    def weights(self, targets: Targets) -> Tensor:
        """See the base class."""
        weights = torch.where(targets.known, self.class_weights[targets.value], 0)
        if targets.coarse is not None:
            possible = targets.coarse.float()
            weights = weights + possible @ self.class_weights / possible.sum(1).clamp(min=1)
        score = learnt_scores(targets, self.config)
        if score is not None:
            soft = weigh_scores(targets, score, self.config) * (score.nan_to_num() @ self.class_weights)
            weights = torch.where(score.isnan().any(1), weights, soft)
        return weights

    def losses(self, outputs: Tensor, targets: Targets) -> Tensor:
        """See the base class."""
        logits = outputs.float()
        losses = torch.where(targets.known, self._cross_entropy(logits, targets.value), 0)
        if targets.coarse is not None:
            is_coarse = targets.coarse.any(1)
            # In the other rows all classes are possible, which gives 0 and a finite gradient.
            impossible = ~targets.coarse & is_coarse[:, None]
            log_marginal = logits.log_softmax(1).masked_fill(impossible, -torch.inf).logsumexp(1)
            marginal = compute_robust_marginal(log_marginal, self.config)
            possible = targets.coarse.float()
            weight = possible @ self.class_weights / possible.sum(1).clamp(min=1)
            losses = losses + torch.where(is_coarse, marginal * weight, 0)
        score = learnt_scores(targets, self.config)
        if score is not None:
            soft = weigh_scores(targets, score, self.config) * self._cross_entropy(logits, score.nan_to_num())
            losses = torch.where(score.isnan().any(1), losses, soft)
        return losses

    def _cross_entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        if self._ordinal_scale is not None:
            smoothing = self.config.label_smoothing
            losses = ordinal_cross_entropy(logits, target, weight=self.class_weights, label_smoothing=smoothing)
            return self._ordinal_scale * losses
        if self.config.robust != "off":
            return compute_robust_loss(logits.log_softmax(1), target, self.class_weights, self.config)
        return functional.cross_entropy(
            logits, target, weight=self.class_weights, label_smoothing=self.config.label_smoothing, reduction="none"
        )

    def constant_outputs(self, counts: Tensor) -> Tensor:
        """See the base class; returns the log frequencies."""
        smoothing = self.config.label_smoothing
        smoothed = counts * (1 - smoothing) + counts.sum() * smoothing / len(counts)
        return (self.class_weights * smoothed).clamp(min=_TINY).log().float()

    def examples(self) -> Targets:
        """See the base class; every class once."""
        num = len(self.class_weights)
        return Targets(value=torch.arange(num), known=torch.ones(num, dtype=torch.bool), weight=torch.ones(num))


class AgeLoss(AttributeLoss):
    """Loss of an age head in years (regression) or over years (distribution; see `faceattr.training.age`).

    In years, the loss is the squared distance to the age, or to the nearest completed year of the range.
    """

    def __init__(self, config: LossConfig, output: AgeOutput) -> None:
        super().__init__()
        self.config = config
        self.output = output
        self.is_entropy = output != "regression"

    def weights(self, targets: Targets) -> Tensor:
        """See the base class."""
        return targets.known.float()

    def losses(self, outputs: Tensor, targets: Targets) -> Tensor:
        """See the base class; in squared years, or in nats."""
        outputs = outputs.float()
        low, high = targets.value.unbind(1)
        if self.output == "regression":
            years = outputs[:, 0]
            distance = years - years.detach().clamp(low, high - 1)
            return torch.where(targets.known, distance**2, 0)
        log_p = outputs.log_softmax(1)
        soft = spread_ages(low, self.config.age_sigma_years)
        exact = functional.kl_div(log_p, soft, reduction="none").sum(1)
        # Rows without a label have the empty range [0, 0); replacing it by all years keeps the gradient finite.
        within = years_within(targets.value) | ~targets.known[:, None]
        ranged = -log_p.masked_fill(~within, -torch.inf).logsumexp(1)
        return torch.where(targets.known, torch.where(high - low <= 1, exact, ranged), 0)

    def constant_outputs(self, counts: Tensor) -> Tensor:
        """See the base class; returns the mean age, or the log frequencies of the soft labels."""
        years = torch.arange(NUM_YEARS)
        share = (counts / counts.sum()).float()
        if self.output == "regression":
            return (share @ years.float()).reshape(1)
        return (share @ spread_ages(years, self.config.age_sigma_years)).clamp(min=_TINY).log()

    def examples(self) -> Targets:
        """See the base class; every year once."""
        years = torch.arange(NUM_YEARS).float()
        known = torch.ones(NUM_YEARS, dtype=torch.bool)
        return Targets(value=torch.stack([years, years + 1], 1), known=known, weight=torch.ones(NUM_YEARS))


def build_attribute_loss(
    attribute: Attribute, config: LossConfig, counts: Tensor, *, age_output: AgeOutput
) -> AttributeLoss:
    """Builds the loss of an attribute, with class weights if configured.

    Args:
        attribute: attribute of the loss.
        config: settings.
        counts: [C], number of labels by class, as `LabelTotals` counts them.
        age_output: output of an age attribute's head.
    """
    weighed = attribute.name in (config.class_weighted or (attribute.name,)) and not config.adjustment_of(
        attribute.name
    )
    config = replace(config, label_smoothing=config.smoothing_of(attribute.name))
    kind = _WEIGHT_KINDS.get(config.class_weights) if weighed else None
    ratio = config.max_class_weight
    match attribute.kind:
        case "binary":
            # For a binary attribute the threshold has the effect of these softer weights.
            if kind is None or kind == "root":
                return BinaryLoss(config, None)
            return BinaryLoss(config, compute_pos_weight(counts, kind, max_ratio=ratio))
        case "age":
            return AgeLoss(config, age_output)
        case "multiclass" | "identity":
            weights = None if kind is None else compute_class_weights(counts, kind, max_ratio=ratio)
            scale = compute_ordinal_scale(counts) if attribute.name in config.ordinal else None
            return ClassLoss(config, len(attribute.classes), weights, ordinal_scale=scale)
    assert_never(attribute.kind)
