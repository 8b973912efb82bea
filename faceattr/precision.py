"""The data type that networks compute in: what `auto` is on which device.

    auto      bfloat16 on NVIDIA GPUs from Ampere on (compute capability 8.0); float32 on older ones and on CPUs
    float32   on a GPU with TF32, which rounds the factors of matrix products to 10 bits; Ampere GPUs are the first to
              have it

Weights, losses, scores and saved models are float32 in every precision. No torch here, so that a process can choose a
precision without importing it; `faceattr.training.loop.forward` applies one.
"""

import logging
from pathlib import Path

from faceattr.config import Precision, PrecisionChoice
from faceattr.config.checks import check_choice

_log = logging.getLogger(__name__)
Capability = tuple[int, int]
"""Compute capability of a CUDA device, such as (9, 0)."""
_AMPERE: Capability = (8, 0)
_CPU_FACTS = Path("/proc/cpuinfo")
# Flags of CPUs that multiply bfloat16 numbers, as Linux names them: x86, and Arm.
_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16", "svebf16"})


def resolve_precision(choice: PrecisionChoice, capability: Capability | None) -> Precision:
    """Returns a precision as given, or for `auto` that of a device.

    Args:
        choice: what the user chose.
        capability: compute capability of the GPU that computes, of several the lowest; None for a CPU.

    Raises:
        ConfigError: there is no such precision.
    """
    check_choice("precision", choice, PrecisionChoice)
    if choice != "auto":
        return choice
    return "bfloat16" if capability is not None and capability >= _AMPERE else "float32"


def warn_of_emulation(precision: Precision) -> None:
    """Logs a warning if this machine's CPU would emulate the precision."""
    if precision == "bfloat16" and lacks_bfloat16(_CPU_FACTS.read_text() if _CPU_FACTS.exists() else None):
        _log.warning(
            "this machine's CPU has no instructions for bfloat16 and emulates it, which is several times slower than "
            "float32"
        )


def lacks_bfloat16(cpu_facts: str | None) -> bool:
    """Whether a CPU has to emulate bfloat16, which makes it several times slower than float32.

    Args:
        cpu_facts: content of Linux' /proc/cpuinfo; None, on other systems, counts as not lacking it.
    """
    if cpu_facts is None:
        return False
    flags = (line for line in cpu_facts.splitlines() if line.lower().startswith(("flags", "features")))
    return _BFLOAT16_FLAGS.isdisjoint(next(flags, "").split())
