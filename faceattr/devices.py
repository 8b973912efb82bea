"""Devices and precisions that models run in."""

import copy
import logging
from collections.abc import Callable
from typing import Any

import torch

from faceattr.errors import ConfigError

_log = logging.getLogger(__name__)


def resolve_device(device: str) -> torch.device:
    """Resolves `auto` to a CUDA device if there is one, else the CPU; other names as torch understands them.

    Raises:
        ConfigError: no such device on this machine.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device {device!r}: expected auto, cpu, cuda or cuda:<index>") from error
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {device!r}: torch {torch.__version__} sees no CUDA device here; use cpu or auto")
    return resolved


def given_device(has_gpu: bool, find_gpu: Callable[[], torch.device] = lambda: torch.device("cuda")) -> torch.device:
    """Returns the device of this process.

    Ray counts the GPUs that it is told of (`ray start --num-gpus`); torch may see none of them, because a driver is
    missing or the GPU is only a logical resource. Then the process works on the CPU, with a warning.

    Args:
        has_gpu: whether Ray gave this process a GPU, or a share of one.
        find_gpu: returns the CUDA device; by default the first one visible to this process.
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


def default_dtype(device: torch.device) -> torch.dtype:
    """Returns float16 on a GPU, the fastest type that keeps P(yes) within 2e-4; float32 elsewhere."""
    return torch.float16 if device.type == "cuda" else torch.float32


def place(module: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Returns the module itself if it already has this device and type, else a copy; the given module never moves."""
    parameter = next(module.parameters())
    if parameter.dtype == dtype and parameter.device == device:
        return module
    return copy.deepcopy(module).to(device=device, dtype=dtype)
