"""Content of the dashboards: panels with PromQL over the names in `faceattr.watch.metrics`."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One plot.

    Attributes:
        title: title of the panel.
        text: what a reader should learn from it.
        unit: Grafana's unit.
        queries: (PromQL, legend) of its lines.
    """

    title: str
    text: str
    unit: str
    queries: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """One dashboard.

    Attributes:
        name: name of its file and job.
        title: title of the page.
        panels: panels from left to right, top to bottom.
    """

    name: str
    title: str
    panels: tuple[Panel, ...]


_LABELLED = "sum(rate(ray_faceattr_images_labelled_total[2m]))"
_REJECTED = "(sum(rate(ray_faceattr_images_rejected_total[2m])) or vector(0))"
_BUSY = "sum(rate(ray_faceattr_inference_seconds_sum[2m]))"
_WAIT = "sum(rate(ray_faceattr_actor_wait_seconds_total[2m]))"
_USD_PER_S = (
    "($gpu_price * (sum(ray_node_gpus_available) or vector(0)) + $core_price * sum(ray_node_cpu_count) / 2) / 3600"
)

_MACHINES = (
    Panel(
        title="GPU busy",
        text="Share of time that each GPU computes. Low with a high data wait: reading or decoding is too slow.",
        unit="percent",
        queries=(("ray_node_gpus_utilization", "{{instance}} GPU {{GpuIndex}}"),),
    ),
    Panel(
        title="GPU memory",
        text="Memory in use on each GPU.",
        unit="decmbytes",
        queries=(("ray_node_gram_used", "{{instance}} GPU {{GpuIndex}}"),),
    ),
    Panel(
        title="CPU busy",
        text="Share of each node's cores in use.",
        unit="percent",
        queries=(("ray_node_cpu_utilization", "{{instance}}"),),
    ),
    Panel(
        title="Memory",
        text="Share of each node's memory in use. Ray kills a task near 95 %.",
        unit="percentunit",
        queries=(("ray_node_mem_used / ray_node_mem_total", "{{instance}}"),),
    ),
    Panel(
        title="Network in",
        text="Bytes per second that each node receives: images from the store, pixels from other nodes.",
        unit="Bps",
        queries=(("ray_node_network_receive_speed", "{{instance}}"),),
    ),
    Panel(
        title="Nodes",
        text="Nodes that respond. Steps down are nodes that were lost or released.",
        unit="short",
        queries=(
            ("count(ray_node_cpu_count)", "there"),
            ("autoscaler_active_nodes", "autoscaler: running {{NodeType}}"),
            ("autoscaler_pending_nodes", "autoscaler: asked for {{NodeType}}"),
        ),
    ),
    Panel(
        title="Object store",
        text="Shared memory in use, by location, and bytes spilled to disk. Spilling means: it is too small.",
        unit="bytes",
        queries=(
            ("sum by (Location) (ray_object_store_memory)", "{{Location}}"),
            ("sum(ray_data_obj_store_mem_spilled)", "spilled by Ray Data"),
        ),
    ),
    Panel(
        title="Actors",
        text="Actors by class and state.",
        unit="short",
        queries=(("sum by (Name, State) (ray_actors)", "{{Name}} {{State}}"),),
    ),
)

_STREAM = (
    Panel(
        title="Queues",
        text="Blocks that wait before each operator. They pile up before the slowest one.",
        unit="short",
        queries=(("sum by (operator) (ray_data_num_external_inqueue_blocks)", "{{operator}}"),),
    ),
    Panel(
        title="Rows out of each operator",
        text="Rows per second; all are equal when nothing piles up.",
        unit="short",
        queries=(("sum by (operator) (rate(ray_data_output_rows[2m]))", "{{operator}}"),),
    ),
    Panel(
        title="Running tasks",
        text="Running tasks of each operator.",
        unit="short",
        queries=(("sum by (operator) (ray_data_num_tasks_running)", "{{operator}}"),),
    ),
)

_LABEL = Dashboard(
    name="label",
    title="faceattr: label run",
    panels=(
        Panel(
            title="Images a second",
            text="Rows that came out of the model actors, accepted and rejected.",
            unit="short",
            queries=((_LABELLED, "labelled"), (_REJECTED, "rejected")),
        ),
        Panel(
            title="Done",
            text="Committed rows of the run. The ETA uses the rate of this line.",
            unit="short",
            queries=(
                ('max(ray_faceattr_run_rows{state="done"})', "done"),
                ('max(ray_faceattr_run_rows{state="total"})', "total"),
            ),
        ),
        Panel(
            title="Rejects by reason",
            text="Images per second that got a reason in place of labels.",
            unit="short",
            queries=(("sum by (reason) (rate(ray_faceattr_images_rejected_total[5m]))", "{{reason}}"),),
        ),
        Panel(
            title="Reject share",
            text="The run stops above --max-error-share.",
            unit="percentunit",
            queries=((f"{_REJECTED} / ({_LABELLED} + {_REJECTED})", "rejected"),),
        ),
        Panel(
            title="Actor utilisation",
            text="Share of time that model actors compute; the rest is the data wait.",
            unit="percentunit",
            queries=((f"{_BUSY} / ({_BUSY} + {_WAIT})", "computing"), (f"{_WAIT} / ({_BUSY} + {_WAIT})", "data wait")),
        ),
        Panel(
            title="Seconds a block",
            text="Computing time of an actor for one block: half of the blocks, and 19 of 20, are faster.",
            unit="s",
            queries=tuple(
                (f"histogram_quantile({q}, sum by (le) (rate(ray_faceattr_inference_seconds_bucket[5m])))", legend)
                for q, legend in (("0.5", "half"), ("0.95", "19 of 20"))
            ),
        ),
        Panel(
            title="Images in a block",
            text="Mean. Small blocks cause scheduling overhead.",
            unit="short",
            queries=(
                (
                    "sum(rate(ray_faceattr_block_images_sum[5m])) / sum(rate(ray_faceattr_block_images_count[5m]))",
                    "images",
                ),
            ),
        ),
        Panel(
            title="Cost of a million images",
            text="USD at the current rate, with the prices above: per GPU hour, and per core hour (two vCPUs).",
            unit="currencyUSD",
            queries=((f"{_USD_PER_S} / {_LABELLED} * 1e6", "USD"),),
        ),
        *_STREAM,
        *_MACHINES,
    ),
)

_TRAIN = Dashboard(
    name="train",
    title="faceattr: training",
    panels=(
        Panel(
            title="Images a second",
            text="Images per second over all workers, in the last epoch.",
            unit="short",
            queries=(("max(ray_faceattr_train_images_per_second)", "images/s"),),
        ),
        Panel(
            title="Data wait",
            text="Share of training time without images. Above 10 %: add decoders or CPU nodes, or use smaller images.",
            unit="percentunit",
            queries=(("max(ray_faceattr_train_data_wait_share)", "waiting"),),
        ),
        Panel(
            title="Loss",
            text="Loss of each epoch, by split.",
            unit="short",
            queries=(("max by (split) (ray_faceattr_train_loss)", "{{split}}"),),
        ),
        Panel(
            title="Objective",
            text="The metric by which the best epoch is chosen.",
            unit="short",
            queries=(("max(ray_faceattr_train_objective)", "objective"),),
        ),
        Panel(
            title="Epochs done",
            text="A step back is a lost worker: training resumed from the last checkpoint.",
            unit="short",
            queries=(("max(ray_faceattr_train_epoch)", "epochs"),),
        ),
        Panel(
            title="Cost of a million images",
            text="USD at the rate of the last epoch, with the prices above.",
            unit="currencyUSD",
            queries=((f"{_USD_PER_S} / max(ray_faceattr_train_images_per_second) * 1e6", "USD"),),
        ),
        *_MACHINES,
    ),
)

_SEARCH = Dashboard(
    name="search",
    title="faceattr: search",
    panels=(
        Panel(
            title="Trials",
            text="Trials by state. If many fail, read one trial's log before the search continues.",
            unit="short",
            queries=(("max by (state) (ray_faceattr_search_trials)", "{{state}}"),),
        ),
        Panel(
            title="Best objective",
            text="Best objective of the finished trials.",
            unit="short",
            queries=(("max(ray_faceattr_search_best_objective)", "objective"),),
        ),
        *_MACHINES,
    ),
)

DASHBOARDS: tuple[Dashboard, ...] = (_LABEL, _TRAIN, _SEARCH)
