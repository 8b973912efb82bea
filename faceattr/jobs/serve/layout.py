"""How many replicas there are, and what each of them takes of the cluster."""

from collections.abc import Mapping
from dataclasses import dataclass

from faceattr.config.serving.serve import ServeConfig
from faceattr.errors import ConfigError

# Memory that one replica on a CPU may need with a base-size model in float32, including its activations.
_CPU_REPLICA_BYTES = 3 * 2**30


@dataclass(frozen=True, kw_only=True)
class ReplicaLayout:
    """How the replicas are placed.

    Attributes:
        replicas: their number.
        gpus: GPUs of each.
        cpus: logical CPUs that each claims.
        threads: CPU threads that each computes with.
        batch_size: most images of a batch.
    """

    replicas: int
    gpus: float
    cpus: float
    threads: int
    batch_size: int


def plan_replicas(config: ServeConfig, resources: Mapping[str, float]) -> ReplicaLayout:
    """Fits the config to a cluster.

    Args:
        config: what the user asked for.
        resources: what the cluster has, by Ray's names: CPU, GPU, and memory in bytes.

    Raises:
        ConfigError: the replicas do not fit; Ray would wait for more machines without end.
    """
    num_gpus, num_cpus = resources.get("GPU", 0.0), resources.get("CPU", 0.0)
    gpus = config.gpus_per_replica if config.gpus_per_replica is not None else float(num_gpus >= 1)
    if gpus > 0:
        room, has = int(num_gpus / gpus + 1e-6), f"{num_gpus:g} GPUs"
        each = f"--gpus-per-replica {gpus:g}"
    else:
        room, has = int(num_cpus) // config.threads_per_replica, f"{num_cpus:g} CPU cores"
        each = f"--threads-per-replica {config.threads_per_replica}"
    if room < (config.replicas or 1):
        raise ConfigError(
            f"--replicas {config.replicas or 1} with {each}: the cluster has {has}, which is room for {room}. Lower "
            f"one of them{', or use --gpus-per-replica 0 for CPUs' if gpus > 0 else ''}"
        )
    if gpus == 0:
        room = max(1, min(room, int(resources.get("memory", 0.0) // _CPU_REPLICA_BYTES)))
    return fix_layout(config, replicas=config.replicas or room, gpus=gpus)


def fix_layout(config: ServeConfig, *, replicas: int, gpus: float) -> ReplicaLayout:
    """Returns the layout for a number of replicas, wherever they will find room."""
    return ReplicaLayout(
        replicas=replicas,
        gpus=gpus,
        cpus=0.0 if gpus > 0 else float(config.threads_per_replica),
        threads=config.threads_per_replica,
        batch_size=config.batch_size or (64 if gpus > 0 else 16),
    )
