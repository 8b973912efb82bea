"""The GPUs of the cluster, and the precision that fits them: one for all nodes, so that a run is computed alike.

Each node with GPUs is asked by a task that claims nothing and imports no torch; it asks the GPUs' driver.
"""

import logging
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from faceattr.config import Precision, PrecisionChoice
from faceattr.jobs.cluster.session import cluster_errors
from faceattr.precision import Capability, resolve_precision, warn_of_emulation

logger = logging.getLogger(__name__)
_ASK_DRIVER = ("nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader")
_ASK_S = 60.0


@dataclass(frozen=True, order=True)
class KnownGpu:
    """A GPU as its driver knows it; the oldest sorts first."""

    capability: Capability
    name: str


@dataclass(frozen=True, kw_only=True)
class ClusterPrecision:
    """The precision of a run.

    Attributes:
        precision: data type of the network's computation.
        capability: lowest compute capability of the GPUs that compute; None on CPUs.
        where: the precision and what computes, in words, such as `bfloat16 on NVIDIA H200 (auto)`.
    """

    precision: Precision
    capability: Capability | None
    where: str


def find_cluster_precision(choice: PrecisionChoice, *, on_gpus: bool) -> ClusterPrecision:
    """Resolves a precision for the devices of the cluster.

    Args:
        choice: what the user chose, or what the run began with.
        on_gpus: whether the network runs on GPUs, which are asked what they are; a Ray session must then be open.

    Raises:
        RunError: a node does not answer.
    """
    found = choose_precision(choice, _find_gpus() if on_gpus else None)
    if not on_gpus:
        warn_of_emulation(found.precision)  # the driver's CPU stands for the nodes'
    return found


def choose_precision(choice: PrecisionChoice, gpus: Sequence[KnownGpu] | None) -> ClusterPrecision:
    """Resolves a precision for GPUs, of which the oldest decides; None: for CPUs."""
    oldest = min(gpus, default=None) if gpus is not None else None
    capability = None if oldest is None else oldest.capability
    precision = resolve_precision(choice, capability)
    if gpus is None:
        device = "CPUs"
    elif gpus:
        device = " and ".join(dict.fromkeys(each.name for each in sorted(gpus)))
    else:
        device = "GPUs that nvidia-smi does not know"
        if choice == "auto":
            logger.warning(
                "Ray counts GPUs that nvidia-smi does not know, so --precision auto is float32; choose another if they "
                "are faster in it"
            )
    where = f"{precision} on {device}{' (auto)' if choice == 'auto' else ''}"
    return ClusterPrecision(precision=precision, capability=capability, where=where)


def _find_gpus() -> list[KnownGpu]:
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")]
    ask = ray.remote(num_cpus=0)(ask_driver)
    with cluster_errors():
        answers: list[str] = ray.get(
            [
                ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote()
                for node in nodes
            ]
        )
    return [gpu for answer in answers for gpu in read_gpus(answer)]


def ask_driver() -> str:
    """Returns what nvidia-smi answers about this machine's GPUs; nothing if there is no driver."""
    try:
        return subprocess.run(_ASK_DRIVER, capture_output=True, text=True, timeout=_ASK_S, check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        return ""


def read_gpus(answer: str) -> list[KnownGpu]:
    """Reads lines such as `NVIDIA H200, 9.0`: name and compute capability."""
    gpus = []
    for line in answer.splitlines():
        name, _, capability = line.rpartition(",")
        major, _, minor = capability.strip().partition(".")
        gpus.append(KnownGpu((int(major), int(minor)), name.strip()))
    return gpus
