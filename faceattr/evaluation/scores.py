"""Maps model outputs to calibrated scores: the one definition that prediction, evaluation and export share.

    binary      logit z           P(yes) = sigmoid(z / T), or f(sigmoid(z))
    multiclass  logits [C]        softmax(z / T), or f_c(softmax(z)_c) divided by their sum
    identity    logits [N]        softmax(z)
    age         years or logits   years

T is a temperature, f a curve from isotonic regression: piecewise linear between its knots, constant outside. The
model's `calibration` states which one applies, as written by `faceattr.evaluation.calibration.maps`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, assert_never

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.label_columns import TOP
from faceattr.errors import ModelError
from faceattr.evaluation.judged import read_outputs
from faceattr.training.age import predict_age

METHODS = ("temperature", "isotonic")


class Scores(nn.Module):
    """Calibrated scores of all attributes, in plain tensor arithmetic so that it can be exported.

    Args:
        attributes: attributes of the model.
        calibration: attribute -> settings; the others are scored without calibration.

    Raises:
        ModelError: the settings cannot be read.
    """

    def __init__(self, attributes: AttributeSet, calibration: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__()
        self._names = attributes.names
        self.by_attribute = nn.ModuleDict(
            {f"{each.name}_score": _build(each, calibration.get(each.name)) for each in attributes.attributes}
        )

    def forward(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns the scores per attribute.

        Args:
            outputs: attribute -> float32 [n, outputs], from the model.

        Returns:
            Attribute -> float32: binary [n] P(yes); multiclass and identity [n, classes], sums 1; age [n] years.
        """
        return {name: self.by_attribute[f"{name}_score"](outputs[name].float()) for name in self._names}


def score_outputs(attribute: Attribute, outputs: np.ndarray, calibration: Mapping[str, Any] | None) -> np.ndarray:
    """Returns the scores of one attribute from float32 [n, outputs]; see `Scores`."""
    with torch.inference_mode():
        scores: np.ndarray = _build(attribute, calibration)(torch.from_numpy(np.array(outputs, np.float32))).numpy()
    return scores


def keep_outputs(attribute: Attribute, outputs: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the stored form of an attribute's outputs, float32 [n, outputs], by column; see `output_columns`."""
    column = f"output_{attribute.name}"
    match attribute.kind:
        case "binary":
            return {column: outputs[:, 0]}
        case "multiclass":
            return {column: outputs}
        case "age":
            return {column: score_outputs(attribute, outputs, None)}
        case "identity":
            likeliest = np.argsort(-outputs, axis=1, kind="stable")[:, :TOP].astype(np.int32)
            certainty = score_outputs(attribute, outputs, None).max(1, initial=0.0)
            return {column: likeliest, f"certainty_{attribute.name}": certainty}
    assert_never(attribute.kind)


def score_kept(table: pa.Table, attribute: Attribute, calibration: Mapping[str, Any] | None) -> np.ndarray:
    """Returns a scored table's calibrated scores: [N], or [N, C] for classes; years for an age; a person's certainty.

    Args:
        table: N rows with the columns of `keep_outputs`.
        attribute: attribute of the scores.
        calibration: calibration settings of the attribute; see `Scores`.
    """
    match attribute.kind:
        case "identity":
            return np.asarray(table[f"certainty_{attribute.name}"].to_numpy(zero_copy_only=False))
        case "age":
            return read_outputs(table, attribute)
        case "binary":
            return score_outputs(attribute, read_outputs(table, attribute)[:, None], calibration)
        case "multiclass":
            return score_outputs(attribute, read_outputs(table, attribute), calibration)
    assert_never(attribute.kind)


def _build(attribute: Attribute, calibration: Mapping[str, Any] | None) -> nn.Module:
    match attribute.kind:
        case "age":
            return _Years()
        case "binary" | "multiclass" | "identity":
            return _build_calibrated(attribute, calibration)
    assert_never(attribute.kind)


def _build_calibrated(attribute: Attribute, calibration: Mapping[str, Any] | None) -> nn.Module:
    module: nn.Module = _Temperature(1.0, binary=attribute.is_yes_no)
    if calibration is None:
        return module
    try:
        match calibration["method"]:
            case "temperature":
                return _Temperature(float(calibration["temperature"]), binary=attribute.is_yes_no)
            case "isotonic":
                curves = [_Curve(curve["x"], curve["y"]) for curve in calibration["curves"]]
                expected = 1 if attribute.is_yes_no else len(attribute.classes)
                if len(curves) != expected:
                    raise ValueError(f"expected {expected} curves, found {len(curves)}")
                return _Isotonic(module, curves)
            case other:
                raise ValueError(f"method is {other!r}; expected one of {', '.join(METHODS)}")
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"calibration of {attribute.name!r} cannot be read: {error}") from error


class _Years(nn.Module):
    def forward(self, outputs: Tensor) -> Tensor:
        return predict_age(outputs)


class _Temperature(nn.Module):
    def __init__(self, temperature: float, *, binary: bool) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}; expected more than 0")
        self._temperature = temperature
        self._binary = binary

    def forward(self, outputs: Tensor) -> Tensor:
        logits = outputs / self._temperature
        return logits[:, 0].sigmoid() if self._binary else logits.softmax(1)


class _Isotonic(nn.Module):
    def __init__(self, plain: nn.Module, curves: Sequence["_Curve"]) -> None:
        super().__init__()
        self.plain = plain
        self.curves = nn.ModuleList(curves)

    def forward(self, outputs: Tensor) -> Tensor:
        scores = self.plain(outputs)
        if scores.ndim == 1:
            return self.curves[0](scores)
        each = torch.stack([curve(scores[:, index]) for index, curve in enumerate(self.curves)], 1)
        total = each.sum(1, keepdim=True)
        # As in sklearn: if all curves give 0, all classes are equally likely.
        return torch.where(total > 0, each / total.clamp_min(1e-30), torch.full_like(each, 1 / each.shape[1]))


class _Curve(nn.Module):
    """Piecewise linear curve: the first y plus, for every segment, the part of its rise below x."""

    starts: Tensor
    widths: Tensor
    rises: Tensor

    def __init__(self, x: Sequence[float], y: Sequence[float]) -> None:
        super().__init__()
        knots, values = np.asarray(x, np.float32), np.asarray(y, np.float64)
        if knots.shape != values.shape or knots.ndim != 1 or not len(knots):
            raise ValueError(f"expected equally many x and y, found {knots.shape} and {values.shape}")
        if (np.diff(knots) <= 0).any() or (np.diff(values) < 0).any() or values[0] < 0 or values[-1] > 1:
            raise ValueError("expected increasing x, and non-decreasing y in [0, 1]")
        self._first = float(values[0])
        self.register_buffer("starts", torch.from_numpy(knots[:-1]), persistent=False)
        self.register_buffer("widths", torch.from_numpy(np.diff(knots)), persistent=False)
        self.register_buffer("rises", torch.from_numpy(np.diff(values).astype(np.float32)), persistent=False)

    def forward(self, scores: Tensor) -> Tensor:
        reached = ((scores[:, None] - self.starts) / self.widths).clamp(0, 1)
        return self._first + (reached * self.rises).sum(1)
