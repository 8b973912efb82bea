"""Where a worker computes: on the GPU that Ray gave it, else on the CPU."""

import logging
from collections.abc import Callable

import torch

_log = logging.getLogger(__name__)


def given_device(has_gpu: bool, find_gpu: Callable[[], torch.device] = lambda: torch.device("cuda")) -> torch.device:
    """The device of this process.

    Ray counts GPUs as it is told to (`ray start --num-gpus`); torch may see none of them, because a driver is
    missing or the GPU is a logical one. Then the work goes on, on the CPU, and says so.

    Args:
        has_gpu: Ray gave this process a GPU, or a share of one.
        find_gpu: which; by default the first that Ray lets this process see.
    """
    if not has_gpu:
        return torch.device("cpu")
    if torch.cuda.is_available():
        return find_gpu()
    _log.warning(
        "Ray gave this worker a GPU, but torch %s sees no CUDA device: working on the CPU, which is many times slower. "
        "If the node has a GPU, check its driver with nvidia-smi; if not, start Ray with --num-gpus 0",
        torch.__version__,
    )
    return torch.device("cpu")
