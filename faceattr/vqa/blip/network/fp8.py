"""Matrix products in 8-bit floating point, for the vision tower, which does most of the arithmetic.

A product is x W^T with both sides rounded to float8 e4m3 (3 bits of mantissa, largest number 448), each row of x and of
W scaled so that its largest number becomes 448. GPUs of compute capability 8.9 and above multiply such numbers at twice
the rate of half precision (`torch._scaled_mm`). Elsewhere the same rounding is done and the product is computed in the
precision of the states, which is slow and serves tests.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from faceattr.errors import ConfigError
from faceattr.vqa.blip.network.layers import Dense
from faceattr.vqa.blip.network.vision import VisionTower

FP8 = torch.float8_e4m3fn
_LARGEST = torch.finfo(FP8).max
# Ada and Hopper.
_OLDEST_CAPABILITY = (8, 9)
# Keeps the scale of a row of zeros above zero.
_SMALLEST_SCALE = 1e-12


def check_fp8(device: torch.device) -> None:
    """Raises ConfigError unless the device multiplies 8-bit floats."""
    if device.type != "cuda":
        raise ConfigError("--precision fp8: expected a GPU of compute capability 8.9 or above, found the CPU; use auto")
    capability = torch.cuda.get_device_capability(device)
    if capability < _OLDEST_CAPABILITY:
        raise ConfigError(
            f"--precision fp8: expected a GPU of compute capability 8.9 (Ada, Hopper) or above, found "
            f"{torch.cuda.get_device_name(device)} with {capability[0]}.{capability[1]}; use auto"
        )


def quantise_tower(tower: VisionTower) -> None:
    """Replaces the linear layers of all transformer layers in place; the patch projection stays as it is."""
    for layer in tower.layers:
        for module in layer.modules():
            for name, child in module.named_children():
                if isinstance(child, Dense):
                    setattr(module, name, Fp8Dense(child))


def round_rows(states: Tensor) -> tuple[Tensor, Tensor]:
    """[..., width] -> float8 of the same shape, and float32 scales [..., 1]; their product is about the states."""
    largest = states.abs().amax(dim=-1, keepdim=True).float()
    scale = (largest / _LARGEST).clamp(min=_SMALLEST_SCALE)
    return (states / scale).clamp(-_LARGEST, _LARGEST).to(FP8), scale


class Fp8Dense(nn.Module):
    """x W^T + b with x and W rounded by rows; see the module's text.

    Attributes:
        weight: float8 [outputs, inputs].
        scale: float32 [outputs, 1].
        bias: [outputs].
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, dense: Dense) -> None:
        super().__init__()
        weight, scale = round_rows(dense.weight)
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", dense.bias)

    def forward(self, states: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        rounded, scale = round_rows(states)
        if states.device.type == "cpu":
            weight = (self.weight.float() * self.scale).to(states.dtype)
            return F.linear((rounded.float() * scale).to(states.dtype), weight, self.bias)
        # Products scaled by rows come as bfloat16 only.
        product = torch._scaled_mm(
            rounded.flatten(0, -2),
            self.weight.t(),
            scale_a=scale.flatten(0, -2),
            scale_b=self.scale.t(),
            out_dtype=torch.bfloat16,
        )
        return product.view(*states.shape[:-1], -1).to(states.dtype) + self.bias
