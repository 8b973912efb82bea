"""Which of torch's attention kernels is fastest for the vision tower on this device."""

import logging
import time
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

_log = logging.getLogger(__name__)

_FUSED = (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION)
# What text with masks needs if the fastest kernel takes none, and what runs everywhere.
_FALLBACKS = (SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)
# Torch's texts, on a GPU and on the CPU, if a kernel does not support device, dtype or shape.
_UNSUPPORTED = ("No available kernel", "No viable backend")
_NUM_CALLS = 10


def rank_backends(
    *,
    device: torch.device,
    dtype: torch.dtype,
    shape: tuple[int, int, int, int],
    candidates: Sequence[SDPBackend] = _FUSED,
) -> list[SDPBackend]:
    """Measures attention without a mask.

    Args:
        device: where to measure.
        dtype: of the states.
        shape: images, tokens, heads, head width.
        candidates: kernels to try.

    Returns:
        All kernels that may be used, for `sdpa_kernel(..., set_priority=True)`: the fastest first.
    """
    n, tokens, heads, width = shape
    # As the projection leaves them: query, key and value of a token are neighbours.
    qkv = torch.randn(n, tokens, 3, heads, width, device=device, dtype=dtype)
    seconds = {}
    for backend in candidates:
        try:
            seconds[backend] = _measure(qkv, backend)
        except RuntimeError as error:
            if not str(error).startswith(_UNSUPPORTED):
                raise
    ranked = sorted(seconds, key=lambda backend: seconds[backend])
    measured = " ".join(f"{backend.name.lower()}_ms={1e3 * seconds[backend]:.3f}" for backend in ranked)
    _log.info("attention_backends images=%d tokens=%d heads=%d width=%d %s", *shape, measured)
    return list(dict.fromkeys([*ranked, *_FALLBACKS]))


@torch.inference_mode()
def _measure(qkv: Tensor, backend: SDPBackend) -> float:
    """Returns the seconds of one call."""
    query, key, value = (states.transpose(1, 2) for states in qkv.unbind(2))
    synchronize = torch.get_device_module(qkv.device).synchronize
    with sdpa_kernel(backend):
        F.scaled_dot_product_attention(query, key, value)
        synchronize()
        started = time.perf_counter()
        for _ in range(_NUM_CALLS):
            F.scaled_dot_product_attention(query, key, value)
        synchronize()
    return (time.perf_counter() - started) / _NUM_CALLS
