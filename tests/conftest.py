"""What all tests share: a home of their own, and one real S3 server on loopback."""

import contextlib
import functools
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from faceattr.demo.store import LocalS3, serve_s3

# Short: Ray puts sockets below it, whose paths may have 107 bytes. Ray also writes an auth token into HOME, and boto3
# would read credentials there. Set at import, before any test module can import ray.
_HOME = Path(tempfile.mkdtemp(prefix="fa-"))
os.environ |= {
    "HOME": str(_HOME),
    "RAY_TMPDIR": str(_HOME),
    "RAY_AUTH_MODE": "disabled",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray's workers stand back by default, and would wait for the tests of the other process.
    "RAY_worker_niceness": "0",
    "AWS_EC2_METADATA_DISABLED": "true",
}
# Tests run in two processes on two cores; more threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
for _name in [name for name in os.environ if name.startswith("AWS_") and name != "AWS_EC2_METADATA_DISABLED"]:
    del os.environ[_name]


class RayInOneProcess(LoadScopeScheduling):
    """Under `pytest -n 2` one process runs what needs Ray, so that there is one session; the other takes file by file.

    The session begins first, for it takes longest.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return "ray" if needs_ray(Path(self.config.rootpath / path)) else path


@functools.cache
def needs_ray(path: Path) -> bool:
    """Whether a test module has tests that are marked so."""
    return "pytest.mark.ray" in path.read_text(encoding="utf-8")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> RayInOneProcess:
    """How `-n 2` deals the tests out."""
    return RayInOneProcess(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules that need Ray come first; where there is no GPU, tests that need one are skipped."""
    items.sort(key=lambda item: not needs_ray(item.path))
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu:
        import torch

        if not torch.cuda.is_available():
            for item in on_gpu:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def pytest_unconfigure() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the length of a block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalS3]:
    """A running S3 server; boto3, pyarrow and Ray of this session speak to it."""
    with serve_s3(tmp_path_factory.mktemp("s3")) as server, environment(server.environment):
        yield server


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """A command that a test runs configures our logger as an entry point does; the next test finds it as it was."""
    logger = logging.getLogger("faceattr")
    logger.propagate = True  # a fixture of a module may have run a command
    handlers, level = logger.handlers, logger.level
    yield
    logger.handlers, logger.level, logger.propagate = handlers, level, True


@pytest.fixture
def s3_uri(s3: LocalS3) -> str:
    """A fresh place in the bucket."""
    return f"s3://{s3.bucket}/{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def ray_local(s3: LocalS3) -> Iterator[None]:
    """One Ray session for all tests. Two logical GPUs keep the model's actors apart from decoding, as in production."""
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=2,
        include_dashboard=False,
        object_store_memory=200 * 2**20,
        log_to_driver=False,
        logging_level="WARNING",
    )
    yield
    ray.shutdown()
