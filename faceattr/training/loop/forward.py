"""How inputs go through a network: normalised on the device, computed in the chosen precision."""

import torch
from torch import Tensor, nn

from faceattr.config import Precision
from faceattr.models.backbones.preprocessing import Preprocessing
from faceattr.models.transforms import Normalise

_AUTOCAST_TYPES: dict[Precision, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Forward:
    """Network and inputs to outputs by attribute."""

    def __init__(self, preprocessing: Preprocessing, *, precision: Precision, device: torch.device) -> None:
        self._normalise = Normalise(preprocessing).to(device)
        self._device_type = device.type
        self._dtype = _AUTOCAST_TYPES.get(precision)

    def prepare(self, inputs: Tensor) -> Tensor:
        """uint8 images [n, 3, S, S] to normalised float32; floats, such as cached activations, in their own values.

        Maps [n, C, H, W] come channels last, as the weights lie: convolutions then take up to a third less time.
        """
        floats = self._normalise(inputs) if inputs.dtype == torch.uint8 else inputs
        return floats.contiguous(memory_format=torch.channels_last) if floats.ndim == 4 else floats

    def __call__(self, network: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
        """Attribute name -> [n, outputs], in the chosen precision."""
        with torch.autocast(self._device_type, dtype=self._dtype, enabled=self._dtype is not None):
            return network(self.prepare(inputs))
