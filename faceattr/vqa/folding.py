"""Normalisation of pixels, folded into the projection that follows it.

(x / 255 - mean) / std is linear, and so is a patch projection, so the former is folded into the latter. Pixels enter as
(x - 128) / 64, which half precision represents exactly and which is centred, so that the folded weights have ordinary
sizes and nothing cancels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

PIXEL_CENTRE = 128.0
PIXEL_SCALE = 64.0


def fold_convolution(
    weight: Tensor, bias: Tensor, *, mean: Sequence[float], std: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Returns the patch projection for (x - 128) / 64 of raw pixels x instead of normalised pixels.

    Args:
        weight: float [D, 3, P, P], the checkpoint's convolution.
        bias: float [D].
        mean: per RGB channel, in units of x / 255.
        std: per RGB channel, in units of x / 255.

    Returns:
        float32 [D, 3, P, P] and float32 [D].
    """
    weight, bias = weight.double(), bias.double()
    channel_mean, channel_std = torch.tensor(mean).double(), torch.tensor(std).double()
    shift = (PIXEL_CENTRE / 255 - channel_mean) / channel_std
    folded = weight * (PIXEL_SCALE / (255 * channel_std))[:, None, None]
    folded_bias = bias + (weight * shift[:, None, None]).sum(dim=(1, 2, 3))
    return folded.float(), folded_bias.float()
