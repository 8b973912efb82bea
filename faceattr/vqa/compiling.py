"""Whether and how a network is compiled by `torch.compile`."""

import os
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

CompileMode = Literal["auto", "on", "off"]

# Measured for blip-vqa-base on an H200, batch 256, fp16, 3 questions: the first call, images/s without and with.
_COMPILE_S = 32.0
_EAGER_RATE, _COMPILED_RATE = 2_635.0, 2_845.0


def pays_to_compile(mode: CompileMode, *, num_images: int, device: torch.device) -> bool:
    """Whether to compile, for an actor that has `num_images` to score.

    `auto` compiles on a GPU if the time saved exceeds the time it takes:

        num_images * (1 / 2,635 - 1 / 2,845) > 32 s, that is more than 1.14 million images for one actor.

    A slower GPU saves more per image, so that `on` can pay earlier there.
    """
    if mode == "auto":
        return device.type == "cuda" and num_images * (1 / _EAGER_RATE - 1 / _COMPILED_RATE) > _COMPILE_S
    return mode == "on"


def compile_network(network: nn.Module, cache: Path) -> Any:
    """Returns the network compiled for the one shape that it is called with.

    Args:
        network: network to compile; the whole of it becomes one graph.
        cache: folder of this machine in which compiled kernels are kept, unless TORCHINDUCTOR_CACHE_DIR names another.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache / "inductor"))
    return torch.compile(network, dynamic=False, fullgraph=True)
