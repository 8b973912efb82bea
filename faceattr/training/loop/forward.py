"""How inputs go through a network: normalised on the device, computed in the configured precision."""

import contextlib

import torch
from torch import Tensor, nn

from faceattr.config import Precision, PrecisionChoice
from faceattr.models.backbones.preprocessing import Preprocessing
from faceattr.models.transforms import Normalise
from faceattr.precision import Capability, resolve_precision, warn_of_emulation

_AUTOCAST_TYPES: dict[Precision, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Forward:
    """Runs a network on inputs and returns the outputs per attribute.

    Attributes:
        precision: data type of the network's computation.
    """

    def __init__(self, preprocessing: Preprocessing, *, precision: PrecisionChoice, device: torch.device) -> None:
        """Prepares the device; see `prepare_precision`.

        Args:
            preprocessing: preprocessing of the backbone.
            precision: data type of the network's computation; `auto` is resolved for the device.
            device: where the network runs.
        """
        self.precision = prepare_precision(precision, device)
        self._normalise = Normalise(preprocessing).to(device)
        self._device = device

    def prepare(self, inputs: Tensor) -> Tensor:
        """Normalises uint8 images [n, 3, S, S] to float32; floats, such as cached activations, are not changed.

        Maps [n, C, H, W] get the channels-last layout of the weights, which makes convolutions up to a third faster.
        """
        floats = self._normalise(inputs) if inputs.dtype == torch.uint8 else inputs
        return floats.contiguous(memory_format=torch.channels_last) if floats.ndim == 4 else floats

    def __call__(self, network: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
        """Returns attribute name -> [n, outputs], in the configured precision."""
        with cast_to(self.precision, self._device):
            return network(self.prepare(inputs))


def prepare_precision(choice: PrecisionChoice, device: torch.device) -> Precision:
    """Returns the precision on a device, and prepares this process for it.

    On a GPU, all float32 matrix products of this process use TF32 from now on. Of a CPU that emulates the precision, a
    warning is logged.
    """
    precision = resolve_precision(choice, find_capability(device))
    if device.type == "cuda":
        # Convolutions have TF32 by torch's default. Not by `fp32_precision`: if that alone is set, the older settings
        # that torch.compile reads raise an error (torch 2.13).
        torch.set_float32_matmul_precision("high")
    else:
        warn_of_emulation(precision)
    return precision


def find_capability(device: torch.device) -> Capability | None:
    """Returns the compute capability of a CUDA device; None for other devices."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else None


def cast_to(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Computes, in the block, matrix products and convolutions of a device in a precision."""
    dtype = _AUTOCAST_TYPES.get(precision)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)
