"""A real Ray cluster on this machine as `ray start` makes one: a head and nodes, token authentication, loopback.

Each node is a process group of its own (`ray start --block`), so that one can be killed like a machine. `ray stop` is
never called: it would stop every Ray on the machine.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.processes import descendants

ROOT = Path(__file__).parents[2]
_BIN = Path(sys.executable).parent


def free_ports(count: int) -> list[int]:
    """Ports outside of the range that Ray's workers take theirs from (10002 to 19999)."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        if port >= 20_000 and port not in found:
            found.append(port)
    return found


class LocalHead:
    """A head and its nodes.

    Attributes:
        api: address of the dashboard and the job API.
        metrics_ports: of the nodes, in the order that they were started in.
        agent_ports: of the nodes' agents, which say on loopback how a node is.
        token: that opens both.
        home: HOME of all its processes, and of whoever submits jobs.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str], *, cwd: Path = ROOT) -> None:
        self.home = folder / "home"
        (self.home / ".ray").mkdir(parents=True)
        self.token = secrets.token_hex(32)
        token_path = self.home / ".ray" / "auth_token"
        token_path.touch(mode=0o600)
        token_path.write_text(self.token)
        self._cwd = cwd
        self._variables = variables
        self._logs = folder
        self._temp = folder / "t"
        self._port, api_port = free_ports(2)
        self.address = f"127.0.0.1:{self._port}"
        self.api = f"http://127.0.0.1:{api_port}"
        self._api_port = api_port
        self.metrics_ports: list[int] = []
        self.agent_ports: list[int] = []
        self.nodes: list[subprocess.Popen[bytes]] = []

    def environment(self) -> dict[str, str]:
        """Of a node, and of whoever submits jobs."""
        kept = {name: os.environ[name] for name in ("LANG", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ}
        return kept | {
            "PATH": f"{_BIN}:{os.defpath}",
            "HOME": str(self.home),
            "RAY_AUTH_MODE": "token",
            "RAY_TMPDIR": str(self._temp),
            "RAY_USAGE_STATS_ENABLED": "0",
            "AWS_EC2_METADATA_DISABLED": "true",
            **self._variables,
        }

    def start_head(self, *, num_cpus: int, num_gpus: int) -> None:
        """Starts the head and waits until the job API answers."""
        flags = ["--head", f"--port={self._port}", "--dashboard-host=127.0.0.1"]
        flags += [f"--dashboard-port={self._api_port}", f"--temp-dir={self._temp}"]
        flags.append(f"--ray-client-server-port={free_ports(1)[0]}")
        self._start(flags, num_cpus=num_cpus, num_gpus=num_gpus)
        self.wait_for(lambda: self.get("/api/version"), 120, "the head's API")
        self.wait_for(lambda: self.get("/api/jobs/") == [] and self.num_alive() == 1, 60, "the head's node")

    def add_node(self, *, num_cpus: int, num_gpus: int) -> subprocess.Popen[bytes]:
        """Starts another node and waits until the head knows it."""
        before = self.num_alive()
        node = self._start([f"--address={self.address}"], num_cpus=num_cpus, num_gpus=num_gpus)
        self.wait_for(lambda: self.num_alive() == before + 1 or node.poll() is not None, 120, "the node")
        assert node.poll() is None, self.log()
        return node

    def _start(self, flags: list[str], *, num_cpus: int, num_gpus: int) -> subprocess.Popen[bytes]:
        metrics, agent, agent_grpc, node_manager, object_manager, runtime_env = free_ports(6)
        self.metrics_ports.append(metrics)
        self.agent_ports.append(agent)
        flags = [*flags, f"--num-cpus={num_cpus}", f"--num-gpus={num_gpus}", "--object-store-memory=200000000"]
        flags += ["--node-ip-address=127.0.0.1", f"--metrics-export-port={metrics}", "--disable-usage-stats"]
        flags += [f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}"]
        flags += [f"--node-manager-port={node_manager}", f"--object-manager-port={object_manager}"]
        flags += [f"--runtime-env-agent-port={runtime_env}", "--block"]
        log = (self._logs / f"node-{len(self.nodes)}.log").open("wb")
        with log:
            node = subprocess.Popen(
                [str(_BIN / "ray"), "start", *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._cwd,
                env=self.environment(),
                start_new_session=True,
            )
        self.nodes.append(node)
        return node

    def kill_node(self, node: subprocess.Popen[bytes]) -> None:
        """Every process of a node at once, as when a machine goes."""
        for pid in [*descendants(node.pid), node.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        node.wait()

    def stop(self) -> None:
        """Ends all nodes, the head last."""
        for node in reversed(self.nodes):
            self.kill_node(node)

    def get(self, path: str, *, token: str | None = None, base: str | None = None) -> Any:
        """JSON, or text, of a GET with the token."""
        request = urllib.request.Request(f"{base or self.api}{path}")
        request.add_header("Authorization", f"Bearer {self.token if token is None else token}")
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read().decode()
        return json.loads(text) if answer.headers.get_content_type() == "application/json" else text

    def num_alive(self) -> int:
        """Nodes that the head holds for alive."""
        nodes = self.get("/nodes?view=summary")["data"]["summary"]
        return sum(node["raylet"].get("state") == "ALIVE" for node in nodes)

    def wait_for(self, condition: Any, seconds: float, what: str) -> None:
        """Returns once a condition holds."""
        give_up_at = time.monotonic() + seconds
        while True:
            try:
                if condition():
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError, OSError):
                pass
            assert time.monotonic() < give_up_at, f"{what} did not come within {seconds} s\n{self.log()}"
            assert self.nodes[0].poll() is None, self.log()
            time.sleep(0.3)

    def log(self) -> str:
        """What the nodes said."""
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in sorted(self._logs.glob("node-*.log")))

    def job(self, *words: str, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
        """`ray job WORDS`, as a user types it."""
        environment = self.environment() | {"RAY_API_SERVER_ADDRESS": self.api}
        return subprocess.run(
            [str(_BIN / "ray"), "job", *words],
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            cwd=self._cwd,
            env=environment,
        )

    def metrics(self) -> str:
        """What Prometheus would scrape from the nodes that live."""
        texts = []
        for port, node in zip(self.metrics_ports, self.nodes, strict=True):
            if node.poll() is None:
                with contextlib.suppress(urllib.error.URLError, ConnectionError):
                    texts.append(self.get("/metrics", base=f"http://127.0.0.1:{port}"))
        return "\n".join(texts)


@contextlib.contextmanager
def local_head(variables: Mapping[str, str], *, num_cpus: int = 2, num_gpus: int = 1) -> Iterator[LocalHead]:
    """A running head, in a short folder of its own: Ray's sockets are there."""
    folder = Path(tempfile.mkdtemp(prefix="fa-c-"))
    head = LocalHead(folder, variables)
    try:
        head.start_head(num_cpus=num_cpus, num_gpus=num_gpus)
        yield head
    finally:
        head.stop()
        shutil.rmtree(folder, ignore_errors=True)
