"""Joining or starting a Ray session, and asking it what it has."""

import _thread
import contextlib
import logging
import os
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import ray
import ray.data
import ray.data.exceptions

from faceattr import errors
from faceattr.config import RayConfig, WorkersConfig
from faceattr.data.runs.lease import LEASE_FOLDER, find_driver, hold_lease
from faceattr.data.runs.version import read_record
from faceattr.data.stores.local import LocalStore
from faceattr.data.stores.patience import is_leaving, leave
from faceattr.data.stores.store import Store
from faceattr.errors import ConfigError, FaceattrError, RunError, StorageError
from faceattr.jobs.cluster.code_version import check_nodes
from faceattr.jobs.cluster.surroundings import check_surroundings

logger = logging.getLogger(__name__)
_IDLE_WORKER_MS = 60_000
_OUR_ERROR = re.compile(r"^faceattr\.errors\.(\w+): (.+)$", re.MULTILINE)
# What one actor on a CPU may need with a base-size model in fp32, its activations included.
_CPU_ACTOR_BYTES = 3 * 2**30
# Logical CPUs that an actor claims on a CPU cluster: it keeps a core busy, but reading and decoding must find room to
# be scheduled beside it, or nothing feeds it.
_CPU_ACTOR_SHARE = 0.5


@contextlib.contextmanager
def ray_session(config: RayConfig) -> Iterator[None]:
    """A Ray session for the block: the job's or RAY_ADDRESS's cluster, else a local one that ends with the block.

    Raises:
        RunError: the cluster cannot be reached, or its nodes run other code than this process.
    """
    if ray.is_initialized():  # the caller's session, as in tests
        _quiet()
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    # Ray switches on its usage report by default; a labelling job of faces should not phone home.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray ends idle workers beyond one a core after a second; the decoders of the next epoch would import torch anew.
    os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", str(_IDLE_WORKER_MS))
    check_surroundings(address)
    try:
        if address:
            context = ray.init(log_to_driver=False, logging_level=logging.WARNING)
        else:
            context = ray.init(
                address="local",
                include_dashboard=config.dashboard,
                num_cpus=config.num_cpus,
                object_store_memory=config.object_store_mb * 2**20 if config.object_store_mb else None,
                log_to_driver=False,
                logging_level=logging.WARNING,
            )
    except (OSError, RuntimeError, ValueError) as error:
        if is_leaving():  # Ctrl-C made it fail
            raise KeyboardInterrupt from error
        where = f"at RAY_ADDRESS {address}" if address else "on this machine"
        raise RunError(f"no Ray session {where}: {' '.join(str(error).split())}") from error
    if is_leaving():  # Ray swallows a Ctrl-C while it starts
        ray.shutdown()
        raise KeyboardInterrupt
    _protect_token()
    _quiet()
    logger.info("ray_session address=%s dashboard=%s", address or "local", context.dashboard_url or "off")
    try:
        if address:
            check_nodes()
        yield
    finally:
        ray.shutdown()


def _protect_token() -> None:
    # Ray writes its token readable by everyone; whoever has it can run code on the cluster.
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", Path.home() / ".ray" / "auth_token"))
    if path.is_file() and path.stat().st_mode & 0o077:
        path.chmod(0o600)


def _quiet() -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray.data._internal.execution.streaming_executor"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It warns at every start that Ray's own bars are off; ours are shown.
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)


@contextlib.contextmanager
def stop_on_sigterm() -> Iterator[None]:
    """SIGTERM (`ray job stop`, a spot notice) becomes KeyboardInterrupt in the block, so that everything is put down.

    To be entered after `ray_session`: Ray installs a handler of its own.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        leave()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def drive(store: Store, *, drafts: Sequence[str] = ()) -> Iterator[None]:
    """Holds the lease of a run folder for the block; if it is lost, the block is interrupted.

    A block that fails before a run was begun in the folder leaves nothing there: neither its lease nor its drafts.

    Args:
        store: the run folder.
        drafts: beginnings of the keys that the block may write before it begins the run.

    Raises:
        RunError: another driver lives, or has taken over.
    """
    lost: list[FaceattrError] = []

    def interrupt(error: FaceattrError) -> None:
        lost.append(error)
        _thread.interrupt_main()

    try:
        with hold_lease(store, on_lost=interrupt):
            yield
    except KeyboardInterrupt:
        if lost:
            raise lost[0] from None
        raise
    except FaceattrError as error:
        if not isinstance(error, StorageError):  # a store in trouble is not asked for more
            _forget_attempt(store, drafts)
        raise


def _forget_attempt(store: Store, drafts: Sequence[str]) -> None:
    """Deletes what an attempt left in a folder in which no run was begun. Never hides the error that ended it."""
    try:
        if read_record(store) is not None or find_driver(store) is not None:
            return
        for entry in [each for prefix in (*drafts, LEASE_FOLDER) for each in store.list(prefix)]:
            store.delete(entry.key)
        if isinstance(store, LocalStore):
            for name in {prefix.partition("/")[0] for prefix in (*drafts, LEASE_FOLDER) if "/" in prefix}:
                with contextlib.suppress(OSError):  # it holds something else, or never was
                    (store.root / name).rmdir()
    except FaceattrError as error:
        logger.debug("attempt not forgotten", exc_info=error)


@contextlib.contextmanager
def cluster_errors() -> Iterator[None]:
    """Turns Ray's errors in the block into ours: the one that a worker raised, or a RunError that says what broke."""
    try:
        yield
    except (ray.exceptions.RayError, ray.data.exceptions.UserCodeException) as error:
        logger.debug("cluster error", exc_info=True)
        for cause in _causes(error):
            if isinstance(cause, FaceattrError):
                raise type(cause)(str(cause)) from None
        # Pickling loses causes, but not their text; the last one is the outermost.
        for name, text in reversed(_OUR_ERROR.findall(str(error))):
            raise getattr(errors, name, RunError)(text) from None
        last = [line for line in str(error).splitlines() if line.strip()][-1:]
        raise RunError(
            f"the cluster failed: {type(error).__name__}: {' '.join(last)}. What is committed stays; run the same "
            "command again to go on. FACEATTR_LOG_LEVEL=DEBUG shows the whole error."
        ) from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and all that it wraps, outermost first."""
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
    """How the model actors are spread.

    Attributes:
        min_actors: fewest.
        max_actors: most.
        gpus: GPUs an actor is pinned to.
        cpus: logical CPUs an actor claims.
        threads: CPU threads it computes with.
        batch_size: images in a forward pass.
    """

    min_actors: int
    max_actors: int
    gpus: float
    cpus: float
    threads: int
    batch_size: int

    def block_rows(self, num_rows: int, asked: int | None) -> int:
        """Images in a unit of work: big enough to be cheap to schedule, small enough that all actors get some."""
        if asked is not None:
            return asked
        return max(16, min(256, num_rows // (4 * self.max_actors)))


def plan_actors(config: WorkersConfig) -> ActorLayout:
    """Fits the config to what the cluster has.

    Raises:
        ConfigError: the cluster cannot hold a single actor as asked.
    """
    cluster = ray.cluster_resources()
    num_gpus, num_cpus = cluster.get("GPU", 0.0), cluster.get("CPU", 0.0)
    gpus = config.gpus_per_actor if config.gpus_per_actor is not None else float(num_gpus >= 1)
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
    most = config.max_actors or max(1, room)
    return ActorLayout(
        min_actors=config.min_actors or most,
        max_actors=max(most, config.min_actors or 1),
        gpus=gpus,
        cpus=cpus,
        threads=config.threads_per_actor,
        batch_size=config.batch_size or (64 if gpus > 0 else 8),
    )
