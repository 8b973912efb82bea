"""Heads: map pooled features to the outputs of one attribute.

binary      1 output    logit of the positive class
multiclass  C outputs   one logit per class
identity    N outputs   one logit per person
age         1 output    years (`regression`), or 117 logits over the years 0 to 116 (`distribution`)
"""

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, assert_never, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.label_columns import AGE_LIMIT
from faceattr.errors import ConfigError

Activation = Literal["relu", "gelu"]
AgeOutput = Literal["regression", "distribution"]

NUM_YEARS = int(AGE_LIMIT)
"""Number of outputs of a head that predicts an age distribution: one logit per year, 0 to 116."""

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU}


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """Shape of one head.

    Attributes:
        hidden: widths of the hidden layers; empty for a linear head.
        activation: function after each hidden layer.
        dropout: rate after each activation, in [0, 1).
        age_output: output of an age head; ignored for other kinds of attribute.
        cosine_scale: if given, the last layer has no bias and gives the cosines of the angles between its weights and
            its inputs, times this scale, as ArcFace needs it.
    """

    hidden: tuple[int, ...] = ()
    activation: Activation = "gelu"
    dropout: float = 0.0
    age_output: AgeOutput = "distribution"
    cosine_scale: float | None = field(default=None, metadata={"before": None})

    def __post_init__(self) -> None:
        if any(size < 1 for size in self.hidden):
            raise ConfigError(f"head: hidden layers need at least one unit each, found {self.hidden}")
        for name, value, kind in (
            ("activation", self.activation, Activation),
            ("age_output", self.age_output, AgeOutput),
        ):
            if value not in get_args(kind):
                raise ConfigError(f"head: {name} is {value!r}; expected {' or '.join(get_args(kind))}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"head: dropout is {self.dropout}; expected at least 0 and less than 1")
        if self.cosine_scale is not None and self.cosine_scale <= 0:
            raise ConfigError(f"head: cosine_scale is {self.cosine_scale}; expected more than 0")

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON values; the inverse of `from_dict`."""
        values = {**asdict(self), "hidden": list(self.hidden)}
        # Left out where it is not used, so that versions without it read the model.
        return {name: value for name, value in values.items() if name != "cosine_scale" or value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "HeadConfig":
        """Reads what `to_dict` wrote."""
        return cls(**{**values, "hidden": tuple(values["hidden"])})


HEAD_PRESETS: dict[str, dict[str, HeadConfig]] = {
    "linear": {"default": HeadConfig()},
    "mlp": {"default": HeadConfig(hidden=(128,), dropout=0.1)},
    # UTKFace ViT: 128 hidden units for age and race, 64 for gender, age as one number.
    "utkface_vit": {
        "default": HeadConfig(hidden=(128,), dropout=0.1, age_output="regression"),
        "gender": HeadConfig(hidden=(64,), dropout=0.1),
    },
    # CelebA accessories: pool -> 512 ReLU -> dropout 0.5 -> outputs.
    "celeba4": {"default": HeadConfig(hidden=(512,), activation="relu", dropout=0.5)},
}
"""Preset name -> attribute name -> head shape; `default` applies to attributes that are not listed."""


def head_configs(preset: str, attributes: AttributeSet) -> dict[str, HeadConfig]:
    """Returns attribute name -> head shape of a preset.

    Raises:
        ConfigError: the preset does not exist.
    """
    if preset not in HEAD_PRESETS:
        near = difflib.get_close_matches(preset, HEAD_PRESETS, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"head {preset!r}: expected one of {', '.join(HEAD_PRESETS)}{hint}")
    shapes = HEAD_PRESETS[preset]
    return {name: shapes.get(name, shapes["default"]) for name in attributes.names}


def count_outputs(attribute: Attribute, config: HeadConfig) -> int:
    """Returns the number of outputs of an attribute's head.

    Raises:
        ConfigError: an identity attribute has fewer than two persons.
    """
    match attribute.kind:
        case "binary":
            return 1
        case "age":
            return 1 if config.age_output == "regression" else NUM_YEARS
        case "multiclass":
            return len(attribute.classes)
        case "identity":
            if len(attribute.classes) < 2:
                raise ConfigError(
                    f"attribute {attribute.name!r}: an identity head needs the names of at least two persons as "
                    f"classes, found {list(attribute.classes)}"
                )
            return len(attribute.classes)
    assert_never(attribute.kind)


def build_head(attribute: Attribute, config: HeadConfig, num_features: int) -> nn.Module:
    """Builds a head with random weights: float32 [n, num_features] -> [n, outputs].

    A linear head is an `nn.Linear`; with hidden layers it is an `nn.Sequential` of Linear, activation, Dropout, ...,
    Linear, as in the presets celeba4 and utkface_vit.
    """
    outputs = count_outputs(attribute, config)
    if not config.hidden:
        return _build_last(num_features, outputs, config)
    layers: list[nn.Module] = []
    width = num_features
    for size in config.hidden:
        layers += [nn.Linear(width, size), _ACTIVATIONS[config.activation](), nn.Dropout(config.dropout)]
        width = size
    return nn.Sequential(*layers, _build_last(width, outputs, config))


def _build_last(num_features: int, outputs: int, config: HeadConfig) -> nn.Module:
    if config.cosine_scale is None:
        return nn.Linear(num_features, outputs)
    return CosineLinear(num_features, outputs, scale=config.cosine_scale)


class CosineLinear(nn.Module):
    """Cosines of the angles between inputs and weights, times a scale, in float32 whatever the precision.

    Attributes:
        weight: float32 [outputs, features].
        scale: factor of the cosines.
    """

    def __init__(self, num_features: int, outputs: int, *, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(outputs, num_features)))
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        """Maps [n, features] to float32 [n, outputs], from -scale to scale."""
        with torch.autocast(features.device.type, enabled=False):
            return self.scale * cosines(features.float(), self.weight)


def cosines(inputs: Tensor, weights: Tensor) -> Tensor:
    """Returns the cosines between rows: float32 [..., n, F] and [..., m, F] -> [..., n, m]."""
    return functional.normalize(inputs, dim=-1) @ functional.normalize(weights, dim=-1).transpose(-1, -2)
