"""Joins or starts a Ray session, and asks it for its resources."""

import contextlib
import logging
import os
import re
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.data.exceptions

from faceattr import errors
from faceattr.config import RayConfig, WorkersConfig
from faceattr.data.stores.patience import is_leaving, leave_on
from faceattr.errors import ConfigError, FaceattrError, RunError
from faceattr.jobs.cluster.code_version import check_nodes
from faceattr.jobs.cluster.machines.leftovers import ended_with_session, untag
from faceattr.jobs.cluster.machines.surroundings import check_surroundings
from faceattr.jobs.cluster.machines.worthwhile import worthwhile_actors
from faceattr.jobs.cluster.milestones import gather_milestones
from faceattr.jobs.cluster.quiet import hush_native, hush_python
from faceattr.timeline import note

logger = logging.getLogger(__name__)
_IDLE_WORKER_MS = 60_000
_OUR_ERROR = re.compile(r"^faceattr\.errors\.(\w+): (.+)$", re.MULTILINE)
# Memory that one actor on a CPU may need with a base-size model in fp32, including its activations.
_CPU_ACTOR_BYTES = 3 * 2**30
# Logical CPUs that an actor claims on a CPU cluster. It keeps one core busy, but a whole claim would leave no room to
# schedule reading and decoding, and the actor would get no images.
_CPU_ACTOR_SHARE = 0.5


@contextlib.contextmanager
def ray_session(config: RayConfig) -> Iterator[None]:
    """Opens a Ray session for the block: on the cluster of the job or of RAY_ADDRESS, else a local temporary one.

    Raises:
        RunError: the cluster cannot be reached, or its nodes run other code than this process.
    """
    if ray.is_initialized():  # the caller's session, as in tests
        hush_python()
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    # Ray enables its usage report by default; a labelling job of faces must not send usage data.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray ends idle workers beyond one per core after a second; the next epoch's decoders would have to import torch.
    os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", str(_IDLE_WORKER_MS))
    # Ray gives its workers a niceness of 15: on few cores they would wait for its dashboard, for which nobody waits.
    os.environ.setdefault("RAY_worker_niceness", "0")
    check_surroundings(address)
    hush_python()
    with hush_native(), contextlib.ExitStack() as ends:
        context = _join(address) if address else _start(config, ends)
        untag()
        _protect_token()
        hush_python()
        logger.info("ray_session address=%s dashboard=%s", address or "local", context.dashboard_url or "off")
        try:
            if address:
                check_nodes()
            note("Ray ready")
            yield
            note("Ray no longer needed")
            gather_milestones()
        finally:
            ray.shutdown()


def _join(address: str) -> Any:
    """Joins the cluster at an address."""
    with _start_errors(f"at RAY_ADDRESS {address}"):
        return ray.init(log_to_driver=False, logging_level=logging.WARNING)


def _start(config: RayConfig, ends: contextlib.ExitStack) -> Any:
    """Starts a session on this machine, whose processes `ends` ends; where they were too slow, once more."""
    try:
        return _start_once(config, ends)
    except _LateError as error:
        logger.warning("ray_start failed, trying once more: %s", error)
    return _start_once(config, ends)


def _start_once(config: RayConfig, ends: contextlib.ExitStack) -> Any:
    with contextlib.ExitStack() as attempt:
        attempt.enter_context(ended_with_session())
        with _start_errors("on this machine"):
            context = ray.init(
                address="local",
                include_dashboard=config.dashboard,
                num_cpus=config.num_cpus,
                object_store_memory=config.object_store_mb * 2**20 if config.object_store_mb else None,
                log_to_driver=False,
                logging_level=logging.WARNING,
            )
        _check_object_store()
        ends.enter_context(attempt.pop_all())
    return context


class _LateError(RunError):
    """Ray's own limits for its start have passed: 15 s for its agent, 30 s in all (Ray 2.60). They cannot be set."""


@contextlib.contextmanager
def _start_errors(where: str) -> Iterator[None]:
    """Turns Ray's errors while it starts in the block into ours."""
    try:
        yield
    except Exception as error:
        if is_leaving():  # Ctrl-C made it fail
            raise KeyboardInterrupt from error
        # Ray raises a plain Exception where its processes are too late.
        is_late = type(error) is Exception
        if not is_late and not isinstance(error, OSError | RuntimeError | ValueError):
            raise
        kind = _LateError if is_late else RunError
        raise kind(f"no Ray session {where}: {' '.join(str(error).split())}") from error
    if is_leaving():  # Ray swallows a Ctrl-C while it starts
        ray.shutdown()
        raise KeyboardInterrupt


def _check_object_store() -> None:
    """Warns of an object store on disk: shared memory is smaller than it."""
    shm = Path("/dev", "shm")
    if not shm.is_dir():
        return
    store, room = ray.cluster_resources().get("object_store_memory", 0.0), shutil.disk_usage(shm).total
    if store > room:
        logger.warning(
            "object store on disk, which is slow: it has %d MB, /dev/shm %d MB; enlarge it (docker run --shm-size), or "
            "set --ray.object-store-mb to at most %d",
            store / 2**20,
            room / 2**20,
            0.9 * room / 2**20,
        )


def _protect_token() -> None:
    # Ray writes its token readable by everyone, and whoever has it can run code on the cluster.
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", Path.home() / ".ray" / "auth_token"))
    if path.is_file() and path.stat().st_mode & 0o077:
        path.chmod(0o600)


@contextlib.contextmanager
def stop_on_sigterm() -> Iterator[None]:
    """Turns SIGTERM (`ray job stop`, a spot notice) into KeyboardInterrupt in the block, so that everything is closed.

    Must be entered after `ray_session`, because Ray installs its own handler.
    """
    with leave_on(signal.SIGTERM):
        yield


@contextlib.contextmanager
def cluster_errors() -> Iterator[None]:
    """Turns Ray's errors in the block into ours: the worker's own error, or a RunError that says what failed."""
    try:
        yield
    except (ray.exceptions.RayError, ray.data.exceptions.UserCodeException) as error:
        logger.debug("cluster error", exc_info=True)
        if is_leaving():  # Ray has made another error of Ctrl-C
            raise KeyboardInterrupt from error
        for cause in _causes(error):
            if isinstance(cause, FaceattrError):
                raise type(cause)(str(cause)) from None
        found = find_own_error(str(error))  # pickling loses the causes, but not their text
        if found is not None:
            raise found from None
        last = [line for line in str(error).splitlines() if line.strip()][-1:]
        raise RunError(
            f"the cluster failed: {type(error).__name__}: {' '.join(last)}. Committed shards stay; run the same "
            "command again to resume. FACEATTR_LOG_LEVEL=DEBUG shows the whole error."
        ) from error


def find_own_error(text: str) -> FaceattrError | None:
    """Returns the error of ours that a traceback of a worker ends with; of several the outermost, which is the last."""
    for name, message in reversed(_OUR_ERROR.findall(text)):
        found: FaceattrError = getattr(errors, name, RunError)(message)
        return found
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yields an exception and all that it wraps, outermost first."""
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        each = pending.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        inner = getattr(each, "cause", None)
        pending += [each.__context__, each.__cause__, inner if isinstance(inner, BaseException) else None]


@dataclass(frozen=True, kw_only=True)
class ActorLayout:
    """How the model actors are placed on the cluster.

    Attributes:
        min_actors: smallest number of actors.
        max_actors: largest number of actors.
        gpus: GPUs per actor.
        cpus: logical CPUs that an actor claims.
        threads: CPU threads that an actor computes with.
        batch_size: images per forward pass.
        num_images: images of the run that are left for all actors; 0 if that is not known.
        memory_bytes: memory that an actor claims; 0 if it claims none, since the user or the GPUs decide the number.
    """

    min_actors: int
    max_actors: int
    gpus: float
    cpus: float
    threads: int
    batch_size: int
    num_images: int = 0
    memory_bytes: int = 0

    def block_rows(self, num_rows: int, asked: int | None) -> int:
        """Returns the images per block: enough to be cheap to schedule, few enough that all actors get some."""
        if asked is not None:
            return asked
        return max(16, min(256, num_rows // (4 * self.max_actors)))


def plan_actors(config: WorkersConfig, *, num_images: int = 0, gflop_image: float = 0.0) -> ActorLayout:
    """Fits the config to the cluster's resources, and the number of actors on CPUs to the work as well.

    Args:
        config: what the user asked for.
        num_images: see `ActorLayout`.
        gflop_image: GFLOP of the model an image; 0 if they were not counted.

    Raises:
        ConfigError: the cluster cannot hold a single actor as configured.
    """
    cluster = ray.cluster_resources()
    num_gpus, num_cpus = cluster.get("GPU", 0.0), cluster.get("CPU", 0.0)
    gpus = config.gpus_per_actor if config.gpus_per_actor is not None else float(num_gpus >= 1)
    memory_bytes = 0
    if gpus > 0:
        if num_gpus < gpus and config.max_actors is None:
            raise ConfigError(
                f"--workers.gpus-per-actor {gpus}: the cluster has {num_gpus:g} GPUs. Lower it, use 0 for CPU, or, if "
                "the cluster will grow, set --workers.max-actors"
            )
        room = int(num_gpus / gpus)
        cpus = 0.0
    else:
        room = min(int(num_cpus), int(cluster.get("memory", 0.0) // _CPU_ACTOR_BYTES)) // config.threads_per_actor
        cpus = _CPU_ACTOR_SHARE * config.threads_per_actor
        if num_images and gflop_image:
            room = min(room, worthwhile_actors(num_images * gflop_image, threads=config.threads_per_actor))
        if config.max_actors is None and (config.min_actors or 1) <= room:
            # Not more than a node has: an actor that fits nowhere would be waited for, and may do with less.
            memory_bytes = min(_CPU_ACTOR_BYTES, _largest_memory())
    most = config.max_actors or max(1, room)
    return ActorLayout(
        min_actors=config.min_actors or most,
        max_actors=max(most, config.min_actors or 1),
        gpus=gpus,
        cpus=cpus,
        threads=config.threads_per_actor,
        batch_size=config.batch_size or (128 if gpus > 0 else 8),
        num_images=num_images,
        memory_bytes=memory_bytes,
    )


def _largest_memory() -> int:
    """Returns the memory of the node that has most, in bytes."""
    return max((int(node["Resources"].get("memory", 0)) for node in ray.nodes() if node["Alive"]), default=0)
