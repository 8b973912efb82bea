"""The losses of all attributes, over all ranks.

    loss_a = sum over ranks and rows of losses / sum over ranks and rows of weights / prior_a
    total  = label_weight * loss_main + aux_weight * sum of loss_aux,  each times its own factor

prior_a makes different units comparable: for an age in years it is the variance of the ages, so that this loss starts
at 1, next to cross entropies of ln 2 to ln 10. Cross entropies have a prior of 1, unless --loss.normalised is all.

The denominators do not depend on the model. They are first summed over the batches of a step and over ranks, so that
each rank computes its share of loss_a, and accumulated gradients, summed over ranks, equal a large batch's gradients.
"""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from faceattr.attributes import AttributeSet
from faceattr.config.fit import LossConfig
from faceattr.errors import ConfigError
from faceattr.models.heads import HeadConfig
from faceattr.models.multitask import MultiAttributeModel
from faceattr.training.losses.attribute_loss import AttributeLoss, build_attribute_loss
from faceattr.training.losses.logit_adjustment import AdjustedLoss, compute_adjustment
from faceattr.training.losses.margin import MarginLoss
from faceattr.training.targets import Targets


class MultiAttributeLoss(nn.Module):
    """Losses of all attributes.

    Attributes:
        names: attributes, in the order of all vectors [A].
        loss_weights: float32 [A], factors of the losses in the total.
        priors: float32 [A], divisors of the losses.
    """

    loss_weights: Tensor
    priors: Tensor

    def __init__(self, losses: Mapping[str, AttributeLoss], *, loss_weights: Tensor, priors: Tensor) -> None:
        super().__init__()
        self.names = tuple(losses)
        # As with heads, a bare attribute name could clash with one of nn.Module's own.
        self._losses = nn.ModuleDict({f"{name}_loss": loss for name, loss in losses.items()})
        self.register_buffer("loss_weights", loss_weights)
        self.register_buffer("priors", priors)

    def sum_weights(self, targets: Mapping[str, Targets]) -> Tensor:
        """Returns one batch's denominators, float64 [A], to be summed over the batches of a step and over ranks."""
        return torch.stack([self.loss_of(name).weights(targets[name]).double().sum() for name in self.names])

    def forward(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Targets], denominators: Tensor) -> Tensor:
        """Returns this batch's share of each normalised loss; the sum over batches and ranks is the loss.

        An attribute without any label contributes 0 with a gradient of 0, so that DDP sees every parameter used.

        Args:
            outputs: attribute name -> [n, outputs] from the model.
            targets: attribute name -> labels of the same rows.
            denominators: [A], `sum_weights` summed over all batches and ranks.

        Returns:
            float32 [A].
        """
        sums = torch.stack([self.loss_of(name).losses(outputs[name], targets[name]).sum() for name in self.names])
        divisors = denominators.to(sums)
        return sums / torch.where(divisors > 0, divisors, 1) / self.priors

    def loss_of(self, name: str) -> AttributeLoss:
        """Returns the loss of one attribute."""
        loss = self._losses[f"{name}_loss"]
        assert isinstance(loss, AttributeLoss)
        return loss


def build_objective(
    attributes: AttributeSet, heads: Mapping[str, HeadConfig], config: LossConfig, counts: Mapping[str, Tensor]
) -> MultiAttributeLoss:
    """Builds the losses that a config describes.

    Args:
        attributes: attributes of the model.
        heads: attribute name -> head shape, which determines the form of an age output.
        config: settings.
        counts: attribute name -> number of training labels by class, from `LabelTotals`.

    Raises:
        ConfigError: the config names an attribute that the model does not have or that the setting does not fit, all
            weights are 0, or an attribute has no label.
    """
    weights = compute_loss_weights(attributes.names, config)
    _check_classes(attributes, config)
    if config.arcface_margin and not any(each.is_person for each in attributes.attributes):
        raise ConfigError(
            f"--loss.arcface-margin {config.arcface_margin:g}: expected an identity among the attributes, found "
            f"{', '.join(attributes.names)}"
        )
    losses: dict[str, AttributeLoss] = {}
    priors = []
    for attribute in attributes.attributes:
        count = counts[attribute.name]
        if not count.sum() > 0:
            raise ConfigError(
                f"attribute {attribute.name!r}: the training data has no label of it; leave it out of the model"
            )
        head = heads[attribute.name]
        loss = build_attribute_loss(attribute, config, count, age_output=head.age_output)
        if config.arcface_margin and attribute.is_person:
            _check_cosines(attribute.name, head, config)
            persons = len(attribute.classes)
            loss = MarginLoss(loss, margin=config.arcface_margin, scale=config.arcface_scale, num_classes=persons)
        factor = config.adjustment_of(attribute.name) if attribute.has_classes else 0.0
        if factor:
            ratio = config.max_class_weight
            shift = compute_adjustment(count, factor, is_yes_no=attribute.is_yes_no, max_ratio=ratio)
            loss = AdjustedLoss(loss, shift)
        losses[attribute.name] = loss
        divided = config.normalise and (config.normalised == "all" or not loss.is_entropy)
        priors.append(loss.compute_prior(count) if divided else 1.0)
    return MultiAttributeLoss(losses, loss_weights=weights, priors=torch.tensor(priors))


def compute_loss_weights(names: tuple[str, ...], config: LossConfig) -> Tensor:
    """Returns the configured loss weights, float32 [A].

    Raises:
        ConfigError: the config names an attribute that is not among `names`, or all weights are 0.
    """
    for key, named in (
        ("loss.main", [] if config.main is None else [config.main]),
        ("loss.weights", list(config.weights)),
        ("loss.class-weighted", list(config.class_weighted)),
        ("loss.logit-adjusted", list(config.logit_adjusted)),
        ("loss.attribute-smoothing", list(config.attribute_smoothing)),
        ("loss.ordinal", list(config.ordinal)),
    ):
        unknown = [name for name in named if name not in names]
        if unknown:
            raise ConfigError(f"--{key}: {unknown} are none of the model's attributes {list(names)}")
    base = {name: config.label_weight if name == config.main else config.aux_weight for name in names}
    weights = torch.tensor(
        [(1.0 if config.main is None else base[name]) * config.weights.get(name, 1.0) for name in names]
    )
    if not weights.sum() > 0:
        raise ConfigError("--loss.weights: expected at least one attribute with a weight above 0, found none")
    return weights


def _check_cosines(name: str, head: HeadConfig, config: LossConfig) -> None:
    """Raises ConfigError unless ArcFace can learn the identity attribute `name` with this head."""
    if head.cosine_scale != config.arcface_scale:
        raise ConfigError(
            f"--loss.arcface-scale {config.arcface_scale:g}: the head of {name!r} has the scale {head.cosine_scale}; a "
            "--model.checkpoint keeps the heads it was trained with, so choose its scale, or no margin for a plain head"
        )
    if config.adjustment_of(name):
        raise ConfigError(
            f"--loss.logit-adjustment: {name!r} has --loss.arcface-margin, which needs its cosines as they are; name "
            "the other attributes by --loss.logit-adjusted"
        )


def _check_classes(attributes: AttributeSet, config: LossConfig) -> None:
    """Raises ConfigError if a setting that needs classes names an attribute without them."""
    fitting = {each.name for each in attributes.attributes if each.has_classes}
    ordered = {each.name for each in attributes.attributes if each.has_class_figures}
    for key, named, allowed, words in (
        ("loss.logit-adjusted", config.logit_adjusted, fitting, "attributes with classes"),
        ("loss.attribute-smoothing", tuple(config.attribute_smoothing), fitting, "attributes with classes"),
        ("loss.ordinal", config.ordinal, ordered, "attributes with several classes in an order"),
    ):
        wrong = [name for name in named if name not in allowed]
        if wrong:
            raise ConfigError(
                f"--{key}: expected {words} ({', '.join(sorted(allowed)) or 'there are none'}), found {wrong}"
            )


def initialise_heads(
    model: MultiAttributeModel,
    objective: MultiAttributeLoss,
    counts: Mapping[str, Tensor],
    *,
    names: Collection[str] | None = None,
) -> None:
    """Initialises the last bias of heads from label counts, so that training starts near a loss of 1.

    Otherwise an age head in years would start at 0, and a rare attribute at one half (Lin et al. 2017).

    Args:
        model: model with the heads.
        objective: losses of the model.
        counts: attribute name -> number of training labels by class.
        names: attributes with new heads; by default all.
    """
    for name in objective.names if names is None else names:
        if model.head_configs[name].cosine_scale is not None:
            continue
        last = [module for module in model.head(name).modules() if isinstance(module, nn.Linear)][-1]
        with torch.no_grad():
            last.bias.copy_(objective.loss_of(name).constant_outputs(counts[name]))
