"""Checks that driver and workers run the same code: a node with another version would silently give wrong rows.

Every node is asked when a cluster is joined, and each model actor when it starts, since nodes may join later.
"""

import functools
import hashlib
import socket
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import faceattr
from faceattr.errors import RunError

_PROBE_TIMEOUT_S = 180.0


def compute_code_version(root: Path, release: str) -> str:
    """Returns `0.1.0+3fa9c2d1b0a4`: the release, and a hash of the names and contents of all sources in a folder."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return f"{release}+{digest.hexdigest()[:12]}"


@functools.lru_cache(maxsize=1)
def code_version() -> str:
    """Returns the version of the code that this process runs."""
    return compute_code_version(_package_folder(), faceattr.__version__)


def _package_folder() -> Path:
    return Path(faceattr.__file__).parent


@dataclass(frozen=True, kw_only=True)
class CodeHere:
    """The code that a process runs.

    Attributes:
        version: as `code_version` returns it.
        folder: where the package is.
        host: name of the machine.
    """

    version: str
    folder: str
    host: str


def describe_code() -> CodeHere:
    """Returns the version, folder and host of this process's code."""
    return CodeHere(version=code_version(), folder=str(_package_folder()), host=socket.gethostname())


def check_same_code(driver: CodeHere, found: CodeHere | None = None) -> None:
    """Compares a worker's code (by default this process's) with the driver's. Raises RunError if they differ.

    The same folder on the same machine always counts as the same code, even if it is edited while the job runs.
    """
    found = found or describe_code()
    same_folder = (found.host, found.folder) == (driver.host, driver.folder)
    if found.version != driver.version and not same_folder:
        raise RunError(
            f"the driver runs faceattr {driver.version}, but {found.host} runs {found.version} from {found.folder}. "
            "Give all nodes the same image, or send the code along: ray job submit --working-dir ."
        )


def check_nodes() -> None:
    """Compares the code of every node of the cluster with this process's code.

    Raises:
        RunError: a node has other code, or none.
    """
    probe = ray.remote(num_cpus=0, max_retries=0)(describe_code)
    asked = {
        node["NodeID"]: probe.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote()
        for node in ray.nodes()
        if node["Alive"]
    }
    for node_id, answer in asked.items():
        try:
            found = ray.get(answer, timeout=_PROBE_TIMEOUT_S)
        except ray.exceptions.RayError as error:
            if not any(node["Alive"] for node in ray.nodes() if node["NodeID"] == node_id):
                continue  # the node left the cluster meanwhile
            last = [line for line in str(error).splitlines() if line.strip()][-1:]
            raise RunError(
                f"node {node_id[:8]} cannot run faceattr: {' '.join(last)}. Its image needs the packages of "
                "requirements.lock; the code itself may come along: ray job submit --working-dir ."
            ) from error
        check_same_code(describe_code(), found)
