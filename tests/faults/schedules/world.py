"""A real S3 server that can be killed and frozen, behind a proxy that spoils answers, and drivers that use both."""

import contextlib
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from faceattr.data.stores.s3 import S3Store
from faceattr.demo.store import LocalS3, serve_s3
from tests.conftest import environment
from tests.fakes.proxy import FaultProxy, serve_faults


class Server:
    """The server's process, which comes back under the same address with the same data.

    Attributes:
        facts: address, bucket and credentials.
        pid: of the process that serves now.
    """

    def __init__(self, facts: LocalS3) -> None:
        self.facts = facts
        self.pid = facts.pid
        proc = Path(f"/proc/{facts.pid}")
        self._command = (proc / "cmdline").read_bytes().decode().rstrip("\0").split("\0")
        variables = (proc / "environ").read_bytes().decode().rstrip("\0").split("\0")
        self._environment = dict(each.split("=", 1) for each in variables)
        self._folder = os.readlink(proc / "cwd")
        self._again: subprocess.Popen[bytes] | None = None

    def kill(self) -> None:
        """Ends the server without a warning."""
        os.kill(self.pid, signal.SIGKILL)
        if self._again is not None:
            self._again.wait()

    def start(self) -> None:
        """Starts it again, and returns as soon as it answers."""
        null = subprocess.DEVNULL
        self._again = None
        give_up_at = time.monotonic() + 60
        while time.monotonic() < give_up_at:
            if self._again is None or self._again.poll() is not None:  # a port of it may be in use for a moment
                self._again = subprocess.Popen(
                    self._command, env=self._environment, cwd=self._folder, stdin=null, stdout=null, stderr=null
                )
                self.pid = self._again.pid
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                urllib.request.urlopen(f"{self.facts.endpoint_url}/healthz", timeout=1).close()
                return
            time.sleep(0.05)
        raise AssertionError("the store did not come back")

    def freeze(self, seconds: float) -> None:
        """Stops it for a while; connections stay open and get no answer."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Ends the server if it was started again; the first one belongs to `serve_s3`."""
        if self._again is not None:
            self._again.kill()
            self._again.wait()


@dataclass(frozen=True)
class World:
    """What all schedules share.

    Attributes:
        folder: for images, models and logs.
        server: the store.
        proxy: between drivers and the store.
    """

    folder: Path
    server: Server
    proxy: FaultProxy

    def store(self, prefix: str) -> S3Store:
        """A place in the bucket, past the proxy."""
        facts = self.server.facts
        return S3Store(facts.bucket, prefix, endpoint_url=facts.endpoint_url, deadline_s=120)

    def uri(self, prefix: str) -> str:
        """The same place, as a driver names it."""
        return f"s3://{self.server.facts.bucket}/{prefix}"


@contextlib.contextmanager
def open_world(folder: Path) -> Iterator[World]:
    """Runs server and proxy; drivers that are started inside reach the store by the proxy alone."""
    with serve_s3(folder / "s3") as facts, environment(facts.environment):
        server = Server(facts)
        try:
            with serve_faults(facts.endpoint_url) as proxy, environment({"AWS_ENDPOINT_URL": proxy.url}):
                yield World(folder, server, proxy)
        finally:
            server.close()
