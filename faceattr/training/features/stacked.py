"""Heads of many trials as one network: every weight has a leading axis for the trials.

    outputs[t] = heads with weights[t] on the same features

The first layers of all trials are one matrix product, since all trials read the same features. Dropout draws one mask
for all trials, equal to the mask that each would draw alone. So every trial gets the same numbers as without a stack.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import stack_module_state
from torch.nn import functional

from faceattr.config.fit import OptimConfig
from faceattr.models.heads import CosineLinear, cosines

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8
# The value in torch.nn.utils.clip_grad_norm_.
_CLIP_EPSILON = 1e-6


class StackedHeads(nn.Module):
    """The heads of T trials, with equal shapes per attribute.

    Attributes:
        names: attributes, in order.
        weights: `<attribute>_head.<parameter>` -> [T, ...].
    """

    def __init__(self, trials: Sequence[nn.ModuleDict], names: Sequence[str]) -> None:
        """Stacks copies of each trial's heads; see `MultiAttributeModel.heads`."""
        super().__init__()
        self.names = tuple(names)
        self._layers = {name: _layers_of(trials[0][f"{name}_head"]) for name in self.names}
        stacked, _ = stack_module_state(list(trials))
        self._keys = list(stacked)
        for place, key in enumerate(self._keys):
            # Names of a module's parameters must not contain dots.
            self.register_parameter(f"weight{place}", nn.Parameter(stacked[key].detach().clone()))

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """Stacked weights by name; see the class docstring."""
        return {key: self.get_parameter(f"weight{place}") for place, key in enumerate(self._keys)}

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Maps features float32 [n, F], shared by all trials, to attribute name -> [T, n, outputs]."""
        weights = self.weights
        return {name: self._run(name, weights, features) for name in self.names}

    def _run(self, name: str, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
        for prefix, layer in self._layers[name]:
            if isinstance(layer, nn.Linear):
                x = _linear(x, weights[f"{name}_head{prefix}.weight"], weights[f"{name}_head{prefix}.bias"])
            elif isinstance(layer, CosineLinear):
                with torch.autocast(x.device.type, enabled=False):
                    x = layer.scale * cosines(x.float(), weights[f"{name}_head{prefix}.weight"])
            elif isinstance(layer, nn.Dropout):
                x = x * functional.dropout(torch.ones_like(x[0]), layer.p, self.training)
            else:
                x = layer(x)
        return x

    def state_of(self, trial: int) -> dict[str, Tensor]:
        """Returns one trial's weights as the state dict of its heads, copied to the CPU."""
        return {key: weight[trial].detach().cpu().clone() for key, weight in self.weights.items()}


def _layers_of(head: nn.Module) -> list[tuple[str, nn.Module]]:
    """Returns (prefix of the parameter names, layer) in order."""
    if isinstance(head, nn.Sequential):
        return [(f".{index}", layer) for index, layer in enumerate(head)]
    return [("", head)]


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Applies a layer per trial: [n, in] or [T, n, in], weight [T, out, in], bias [T, out] -> [T, n, out]."""
    if x.ndim == 2:
        flat = functional.linear(x, weight.flatten(0, 1), bias.flatten())
        return flat.unflatten(1, weight.shape[:2]).transpose(0, 1)
    return torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))


@dataclass
class _Moments:
    mean: Tensor
    square: Tensor


class StackedAdamW:
    """AdamW with a learning rate and weight decay per trial; each trial's gradient is clipped separately."""

    def __init__(self, heads: StackedHeads, configs: Sequence[OptimConfig]) -> None:
        """Takes the settings of each trial; all have the same `clip_norm`."""
        self._weights = list(heads.weights.values())
        self._moments = [_Moments(torch.zeros_like(each), torch.zeros_like(each)) for each in self._weights]
        device = self._weights[0].device
        self._lr = torch.tensor([each.lr for each in configs], device=device, dtype=torch.float64)
        self._decay = torch.tensor([each.weight_decay for each in configs], device=device, dtype=torch.float64)
        self._clip_norm = configs[0].clip_norm
        self._num_steps = 0

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Takes a step with `factor` times the peak learning rates, then clears the gradients."""
        self._num_steps += 1
        lr = self._lr * factor
        first, second = (1 - beta**self._num_steps for beta in _BETAS)
        gradients = [_gradient(each) for each in self._weights]
        scale = self._clip_scale(gradients)
        for weight, gradient, moments in zip(self._weights, gradients, self._moments, strict=True):
            clipped = gradient if scale is None else gradient * _along(scale, weight)
            # Biases have no weight decay: a bias has only one axis in addition to the trials.
            if weight.ndim > 2:
                weight.mul_(_along(1 - lr * self._decay, weight))
            moments.mean.lerp_(clipped, 1 - _BETAS[0])
            moments.square.mul_(_BETAS[1]).addcmul_(clipped, clipped, value=1 - _BETAS[1])
            divisor = (moments.square.sqrt() / second**0.5).add_(_EPSILON)
            weight.sub_(_along(lr / first, weight) * (moments.mean / divisor))
            weight.grad = None

    def _clip_scale(self, gradients: Sequence[Tensor]) -> Tensor | None:
        if self._clip_norm is None:
            return None
        squares = torch.stack([each.flatten(1).square().sum(1) for each in gradients]).sum(0)
        return (self._clip_norm / (squares.sqrt() + _CLIP_EPSILON)).clamp(max=1.0)


def _gradient(weight: nn.Parameter) -> Tensor:
    if weight.grad is None:
        raise RuntimeError("a weight of the stack has no gradient; call backward first")
    return weight.grad


def _along(values: Tensor, weight: Tensor) -> Tensor:
    """Reshapes [T] -> [T, 1, ...] in the weight's dtype."""
    return values.to(weight.dtype).view(-1, *[1] * (weight.ndim - 1))
