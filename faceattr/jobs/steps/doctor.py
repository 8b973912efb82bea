"""`faceattr doctor`: is everything here that a run needs?"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from faceattr.config import StorageConfig
from faceattr.config.shared import RayConfig
from faceattr.errors import FaceattrError
from faceattr.jobs.cluster.session import ray_session
from faceattr.jobs.doctor.findings import Finding, describe_findings
from faceattr.jobs.doctor.machine import judge_machine, read_machine
from faceattr.jobs.doctor.stores import judge_images, judge_output
from faceattr.logs import say


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Checks this machine, the Ray cluster and the stores, and says what to do about each problem.

    The exit code is 1 if there is one. No object stays where it wrote.
    """

    output: str | None = None
    """A folder that a run would write: a local path or s3://bucket/prefix. Default: no store is written."""
    images: str | None = None
    """A folder of images that a run would read. Default: none is read."""
    cluster: bool = True
    """Start Ray, or join the cluster of RAY_ADDRESS, and check the machines of all its nodes."""
    storage: StorageConfig = field(default_factory=StorageConfig)
    ray: RayConfig = field(default_factory=RayConfig)

    def __call__(self) -> int:
        """Prints the findings."""
        findings = list(self._examine())
        say(describe_findings(findings))
        return int(any(each.remedy is not None for each in findings))

    def _examine(self) -> Iterator[Finding]:
        yield from judge_machine(read_machine())
        if self.images is not None:
            yield from judge_images(self.images, self.storage)
        if self.output is not None:
            yield from judge_output(self.output, self.storage)
        if self.cluster:
            yield from _judge_cluster(self.ray)


def _judge_cluster(config: RayConfig) -> Iterator[Finding]:
    try:
        with ray_session(config):  # compares the code of the nodes
            nodes = [node for node in ray.nodes() if node["Alive"]]
            found = ray.cluster_resources()
            counted = "1 node" if len(nodes) == 1 else f"{len(nodes)} nodes"
            shown = f"{counted}, {found.get('CPU', 0):g} CPUs, {found.get('GPU', 0):g} GPUs"
            yield Finding(subject="ray", found=f"{ray.__version__}: {shown}, the same code on all")
            here = ray.get_runtime_context().get_node_id()
            for node in nodes:
                if node["NodeID"] != here:
                    strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                    read = ray.remote(num_cpus=0)(read_machine).options(scheduling_strategy=strategy)
                    yield from judge_machine(ray.get(read.remote()))
    except FaceattrError as error:
        yield Finding(subject="ray", found=str(error), remedy="See above, then call faceattr doctor again")
