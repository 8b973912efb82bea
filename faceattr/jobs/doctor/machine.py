"""One machine: Python, packages, GPUs against their driver, shared memory, disk."""

import importlib.metadata
import os
import platform
import shutil
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from packaging.requirements import Requirement
from packaging.version import Version

from faceattr.jobs.doctor.findings import Finding
from faceattr.version import __version__

_PACKAGE = "faceattr"
# Ray takes 30 % of the memory for objects, and at most this much; with less shared memory it uses a file on disk.
_SHM_SHARE = 0.3
_MOST_SHM_BYTES = 200 * 2**30
# What a label run of millions of images spills and logs at most; measured runs stay far below.
_LEAST_DISK_BYTES = 5 * 2**30
# 3 GiB an actor on a CPU, and Ray itself.
_LEAST_MEMORY_BYTES = 6 * 2**30


@dataclass(frozen=True, kw_only=True)
class MachineFacts:
    """Facts about a machine.

    Attributes:
        host: its name.
        python: version of the interpreter.
        packages: required package -> installed version; None if it is missing.
        required: the requirements of faceattr; empty if it is not installed but runs from a folder.
        num_cpus: CPUs that this process may use.
        memory_bytes: physical memory.
        shm_bytes: size of /dev/shm; None if there is none.
        disk_free_bytes: free space of the folder for temporary files.
        temporary: that folder.
        num_gpu_devices: GPUs of which the kernel's driver knows.
        gpus: names of the GPUs that torch can use.
        cuda: CUDA version for which torch was built; None for a build without.
    """

    host: str
    python: str
    packages: Mapping[str, str | None] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    num_cpus: int
    memory_bytes: int
    shm_bytes: int | None
    disk_free_bytes: int
    temporary: str
    num_gpu_devices: int
    gpus: tuple[str, ...]
    cuda: str | None


def read_machine() -> MachineFacts:
    """Reads the facts of the machine that this process runs on."""
    required = _read_requirements()
    temporary = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    shm = Path("/dev", "shm")
    return MachineFacts(
        host=socket.gethostname(),
        python=platform.python_version(),
        packages={Requirement(each).name: _installed(Requirement(each).name) for each in required},
        required=required,
        num_cpus=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        shm_bytes=shutil.disk_usage(shm).total if shm.is_dir() else None,
        disk_free_bytes=shutil.disk_usage(temporary).free,
        temporary=temporary,
        num_gpu_devices=len(list(Path("/dev").glob("nvidia[0-9]*"))),
        gpus=tuple(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())),
        cuda=torch.version.cuda,
    )


def _read_requirements() -> tuple[str, ...]:
    try:
        found = importlib.metadata.requires(_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:  # from a folder, as ray job submit --working-dir sends it
        return ()
    return tuple(each for each in found if "extra ==" not in each)


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def judge_machine(facts: MachineFacts) -> list[Finding]:
    """Returns a finding for each thing that a run needs of a machine."""
    return [
        Finding(subject="python", found=f"{facts.python}, faceattr {__version__}, on {facts.host}"),
        _judge_packages(facts),
        _judge_gpus(facts),
        _judge_memory(facts),
        _judge_shared_memory(facts),
        _judge_disk(facts),
    ]


def _judge_packages(facts: MachineFacts) -> Finding:
    if not facts.required:
        found = "not compared: faceattr is not installed here but runs from a folder"
        return Finding(subject="packages", found=found)
    wrong = []
    for each in map(Requirement, facts.required):
        installed = facts.packages[each.name]
        if installed is None or not each.specifier.contains(Version(installed), prereleases=True):
            wrong.append(f"{each.name} {each.specifier} (found {installed or 'none'})")
    if wrong:
        return Finding(
            subject="packages", found=f"not as required: {', '.join(wrong)}", remedy="Install requirements.lock"
        )
    return Finding(subject="packages", found=f"all {len(facts.required)} as required")


def _judge_gpus(facts: MachineFacts) -> Finding:
    if facts.gpus:
        return Finding(subject="gpu", found=f"{', '.join(facts.gpus)}; torch for CUDA {facts.cuda}")
    if not facts.num_gpu_devices:
        return Finding(subject="gpu", found="none: everything runs on the CPUs")
    found = f"{facts.num_gpu_devices} in this machine, but torch can use none"
    if facts.cuda is None:
        return Finding(subject="gpu", found=found, remedy="This torch was built without CUDA; install one with")
    remedy = f"Is the driver new enough for CUDA {facts.cuda}, and is CUDA_VISIBLE_DEVICES unset? nvidia-smi says more"
    return Finding(subject="gpu", found=found, remedy=remedy)


def _judge_memory(facts: MachineFacts) -> Finding:
    found = f"{facts.num_cpus} CPUs, {_gib(facts.memory_bytes)} of memory"
    few = facts.memory_bytes < _LEAST_MEMORY_BYTES
    remedy = f"At least {_gib(_LEAST_MEMORY_BYTES)} are needed for Ray and one base-size model" if few else None
    return Finding(subject="machine", found=found, remedy=remedy)


def _judge_shared_memory(facts: MachineFacts) -> Finding:
    if facts.shm_bytes is None:
        return Finding(subject="shm", found="no /dev/shm", remedy="Ray keeps its objects there; mount a tmpfs")
    wanted = min(_SHM_SHARE * facts.memory_bytes, _MOST_SHM_BYTES)
    small = facts.shm_bytes < wanted
    remedy = f"Ray wants {_gib(wanted)}, else it uses the disk: docker run --shm-size, or --ray.object-store-mb"
    return Finding(subject="shm", found=f"shared memory of {_gib(facts.shm_bytes)}", remedy=remedy if small else None)


def _judge_disk(facts: MachineFacts) -> Finding:
    found = f"{facts.temporary} has {_gib(facts.disk_free_bytes)} free"
    full = facts.disk_free_bytes < _LEAST_DISK_BYTES
    remedy = f"Ray needs about {_gib(_LEAST_DISK_BYTES)} for logs and spilled objects; free some, or set RAY_TMPDIR"
    return Finding(subject="disk", found=found, remedy=remedy if full else None)


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / 2**30:,.1f} GiB"
