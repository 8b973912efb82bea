"""How inputs go through a network: normalised on the device, computed in the configured precision."""

import torch
from torch import Tensor, nn

from faceattr.config import Precision
from faceattr.models.backbones.preprocessing import Preprocessing
from faceattr.models.transforms import Normalise

_AUTOCAST_TYPES: dict[Precision, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Forward:
    """Runs a network on inputs and returns the outputs per attribute."""

    def __init__(self, preprocessing: Preprocessing, *, precision: Precision, device: torch.device) -> None:
        self._normalise = Normalise(preprocessing).to(device)
        self._device_type = device.type
        self._dtype = _AUTOCAST_TYPES.get(precision)

    def prepare(self, inputs: Tensor) -> Tensor:
        """Normalises uint8 images [n, 3, S, S] to float32; floats, such as cached activations, are not changed.

        Maps [n, C, H, W] get the channels-last layout of the weights, which makes convolutions up to a third faster.
        """
        floats = self._normalise(inputs) if inputs.dtype == torch.uint8 else inputs
        return floats.contiguous(memory_format=torch.channels_last) if floats.ndim == 4 else floats

    def __call__(self, network: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
        """Returns attribute name -> [n, outputs], in the configured precision."""
        with torch.autocast(self._device_type, dtype=self._dtype, enabled=self._dtype is not None):
            return network(self.prepare(inputs))
