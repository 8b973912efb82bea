"""A Ray cluster of two nodes, one of which can be lost."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator

_SCRIPT = """
import sys, time
from ray.cluster_utils import Cluster
node = dict(num_cpus=2, num_gpus=1, object_store_memory=200 * 2**20)
cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
lost = cluster.add_node(**node)
cluster.wait_for_nodes()
print(cluster.address, flush=True)
sys.stdin.readline()
cluster.remove_node(lost, allow_graceful=False)
print("lost", flush=True)
sys.stdin.readline()
cluster.shutdown()
"""


class TwoNodes:
    """The cluster.

    Attributes:
        address: for RAY_ADDRESS.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address = process.stdout.readline().strip()

    def lose_node(self) -> None:
        """Takes the second node away, as when its machine goes."""
        print(file=self._process.stdin, flush=True)
        assert self._process.stdout.readline().strip() == "lost"


@contextlib.contextmanager
def two_nodes() -> Iterator[TwoNodes]:
    """Two nodes of 2 CPUs and one logical GPU each, in a process of their own."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", _SCRIPT], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield TwoNodes(process)
        finally:
            process.communicate(input="\n\n", timeout=60)
