"""The group of workers under DDP that a training, or a trial of a search, runs in."""

import contextlib
import functools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
import ray.train
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.constants import ENV_VARS_TO_PROPAGATE

from faceattr.config.train import TrainWorkersConfig

# How long to wait for room for the workers before asking again: a request made while Ray still counted a dead node is
# never fulfilled.
_START_TRY_S = 30.0


def _count_start_tries(wait_s: float) -> int:
    """Returns how often room for the workers is requested within `wait_s` seconds."""
    return max(1, math.ceil(wait_s / _START_TRY_S))


def build_trainer(
    work: Callable[[dict[str, Any]], Any],
    settings: dict[str, Any],
    workers: TrainWorkersConfig,
    *,
    name: str,
    storage_path: str,
    callbacks: Sequence[Any] = (),
) -> TorchTrainer:
    """Builds the trainer that runs a function on every worker of a group.

    Args:
        work: the function.
        settings: the argument of the function.
        workers: number and resources of the workers.
        name: name of the run.
        storage_path: folder for Ray's own files. Checkpoints are stored elsewhere.
        callbacks: callbacks of Ray Train, such as the one that reports to Tune.
    """
    backend = workers.backend if workers.backend != "auto" else "nccl" if workers.use_gpu else "gloo"
    return TorchTrainer(
        # Bound, not `train_loop_config`: Ray Train's controller would unpickle that, and import all that it names.
        functools.partial(work, settings),
        torch_config=TorchConfig(backend=backend),
        scaling_config=ray.train.ScalingConfig(
            num_workers=(workers.min_workers, workers.num_workers) if workers.min_workers else workers.num_workers,
            use_gpu=workers.use_gpu,
            resources_per_worker={"CPU": workers.cpus_per_worker} | ({"GPU": 1} if workers.use_gpu else {}),
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=storage_path,
            failure_config=ray.train.FailureConfig(
                max_failures=workers.max_failures, controller_failure_limit=_count_start_tries(workers.wait_s) - 1
            ),
            callbacks=list(callbacks),
        ),
    )


@contextlib.contextmanager
def group_environment(workers: TrainWorkersConfig) -> Iterator[None]:
    """Sets, in the block, options of Ray Train that it reads from the environment alone."""
    values = {
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(workers.wait_s / _count_start_tries(workers.wait_s)),
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
        # The process that gives back the room of a group whose trial was stopped asks for the only Ray of its machine
        # otherwise, and dies of a second one (Ray 2.60): the next trial then waits for ever.
        "RAY_ADDRESS": ray.get_runtime_context().gcs_address,
    }
    ENV_VARS_TO_PROPAGATE.add("RAY_ADDRESS")
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
