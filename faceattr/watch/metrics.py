"""The list of metrics: jobs create theirs from it, dashboards and alerts are generated from it, tests check all of
them.

A name here is the name in code; Ray exports it on each node's metrics port with the prefix `ray_`.
"""

from dataclasses import dataclass
from typing import Literal

from faceattr.errors import ConfigError

MetricKind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric of this package.

    Attributes:
        name: name in code; counters end in `_total`, units are suffixes.
        kind: counter (only grows), gauge (a state), histogram (a distribution).
        text: its meaning, in one sentence.
        jobs: jobs that export it.
        tags: its labels, in addition to Ray's (node, worker, session).
        boundaries: upper bounds of a histogram's buckets.
    """

    name: str
    kind: MetricKind
    text: str
    jobs: tuple[str, ...]
    tags: tuple[str, ...] = ()
    boundaries: tuple[float, ...] = ()

    @property
    def exported(self) -> str:
        """The name in Prometheus; for a histogram, the stem before `_bucket`, `_sum` and `_count`."""
        return f"ray_{self.name}"

    @property
    def series(self) -> tuple[str, ...]:
        """All names of the metric in Prometheus."""
        if self.kind == "histogram":
            return tuple(f"{self.exported}_{part}" for part in ("bucket", "sum", "count"))
        return (self.exported,)


METRICS: tuple[Metric, ...] = (
    Metric(
        name="faceattr_images_labelled_total",
        kind="counter",
        text="Images that got labels.",
        jobs=("label", "predict"),
    ),
    Metric(
        name="faceattr_images_rejected_total",
        kind="counter",
        text="Images that got a reason in place of labels.",
        jobs=("label", "predict"),
        tags=("reason",),
    ),
    Metric(
        name="faceattr_inference_seconds",
        kind="histogram",
        text="Seconds the model of an actor computes for one block.",
        jobs=("label", "predict"),
        boundaries=(0.05, 0.2, 1.0, 5.0, 20.0, 60.0),
    ),
    Metric(
        name="faceattr_block_images",
        kind="histogram",
        text="Images in one block.",
        jobs=("label", "predict"),
        boundaries=(1, 8, 32, 64, 128, 256, 512),
    ),
    Metric(
        name="faceattr_actor_wait_seconds_total",
        kind="counter",
        text="Seconds in which the model of an actor had no block, after its first one: the data wait.",
        jobs=("label", "predict"),
    ),
    Metric(
        name="faceattr_run_rows",
        kind="gauge",
        text="Rows of the current run, by state: total, done.",
        jobs=("label", "predict"),
        tags=("state",),
    ),
    Metric(
        name="faceattr_train_epoch",
        kind="gauge",
        text="Completed epochs.",
        jobs=("train",),
    ),
    Metric(
        name="faceattr_train_images_per_second",
        kind="gauge",
        text="Images per second over all workers, in the last epoch.",
        jobs=("train",),
    ),
    Metric(
        name="faceattr_train_data_wait_share",
        kind="gauge",
        text="Share of the last epoch's training time in which the network waited for images, 0 to 1.",
        jobs=("train",),
    ),
    Metric(
        name="faceattr_train_objective",
        kind="gauge",
        text="The selection metric of the last epoch.",
        jobs=("train",),
    ),
    Metric(
        name="faceattr_train_loss",
        kind="gauge",
        text="Loss of the last epoch, by split.",
        jobs=("train",),
        tags=("split",),
    ),
    Metric(
        name="faceattr_search_trials",
        kind="gauge",
        text="Trials of the current search, by state.",
        jobs=("search",),
        tags=("state",),
    ),
    Metric(
        name="faceattr_search_best_objective",
        kind="gauge",
        text="Objective of the best finished trial.",
        jobs=("search",),
    ),
)

# Ray's own metrics that dashboards and alerts use, and their meaning.
RAY_METRICS: dict[str, str] = {
    "ray_data_output_rows": "rows that left an operator",
    "ray_data_num_external_inqueue_blocks": "blocks that wait before an operator",
    "ray_data_obj_store_mem_spilled": "bytes that Ray Data spilled to disk",
    "ray_data_num_tasks_running": "running tasks of an operator",
    "ray_node_cpu_utilization": "CPU use of a node, percent",
    "ray_node_cpu_count": "cores of a node",
    "ray_node_mem_used": "memory of a node in use, bytes",
    "ray_node_mem_total": "memory of a node, bytes",
    "ray_node_network_receive_speed": "bytes per second that a node receives",
    "ray_object_store_memory": "object store memory in use, bytes",
    "ray_actors": "actors by state and class",
}
# The same, only on nodes with a GPU.
RAY_GPU_METRICS: dict[str, str] = {
    "ray_node_gpus_utilization": "use of a GPU, percent",
    "ray_node_gram_used": "memory of a GPU in use, MB",
    "ray_node_gpus_available": "GPUs of a node",
}
# The same, only in clusters with an autoscaler.
RAY_AUTOSCALER_METRICS: dict[str, str] = {
    "autoscaler_active_nodes": "nodes that run under the autoscaler",
    "autoscaler_pending_nodes": "nodes that were requested and do not run yet",
    "autoscaler_stopped_nodes": "nodes that stopped since the head started",
}


def find_metric(name: str) -> Metric:
    """Returns the metric with a name. Raises ConfigError if it is not in the list."""
    for metric in METRICS:
        if metric.name == name:
            return metric
    raise ConfigError(
        f"no metric {name!r}; known are {', '.join(each.name for each in METRICS)} (faceattr.watch.metrics)"
    )
