"""Alerts in the format of Prometheus."""

from typing import Any

_LABELLED = "sum(increase(ray_faceattr_images_labelled_total[15m]))"
_REJECTED = "(sum(increase(ray_faceattr_images_rejected_total[15m])) or vector(0))"
_BUSY = "sum(rate(ray_faceattr_inference_seconds_sum[15m]))"
_WAIT = "sum(rate(ray_faceattr_actor_wait_seconds_total[15m]))"

# (name, PromQL, duration, severity, summary, remedy)
ALERTS: tuple[tuple[str, str, str, str, str, str], ...] = (
    (
        "FaceattrNoProgress",
        '(max(ray_faceattr_run_rows{state="total"}) - max(ray_faceattr_run_rows{state="done"}) > 0)'
        ' and (changes(max(ray_faceattr_run_rows{state="done"})[15m:1m]) == 0)',
        "5m",
        "page",
        "a run has rows left and none has arrived for 15 minutes",
        "Look at the queues on the label dashboard and at `ray job logs`; stop the job and submit it again; what is "
        "committed stays.",
    ),
    (
        "FaceattrRejectShare",
        f"{_REJECTED} / ({_LABELLED} + {_REJECTED}) > 0.03",
        "10m",
        "warn",
        "more than 3 % of the images of the last 15 minutes cannot be used",
        "See the reasons: `faceattr status RUN --rejects`. The run stops by itself above --max-error-share.",
    ),
    (
        "FaceattrNodesLost",
        "max_over_time(count(ray_node_cpu_count)[30m:1m]) - count(ray_node_cpu_count) >= 2",
        "1m",
        "warn",
        "two or more nodes disappeared within 30 minutes",
        "Spot machines are being taken back, or the pool shrinks. Rows are safe; the rate falls. If it lasts, use "
        "another zone or machine type.",
    ),
    (
        "FaceattrSpotChurn",
        "sum(increase(autoscaler_stopped_nodes[1h])) > 10",
        "5m",
        "warn",
        "the autoscaler lost or stopped more than ten nodes within an hour",
        "Each new node pulls the image and loads the model: use on-demand machines, or another zone.",
    ),
    (
        "FaceattrActorsStarve",
        f"{_WAIT} / ({_BUSY} + {_WAIT}) > 0.5",
        "20m",
        "warn",
        "model actors wait for data more than half of their time",
        "Reading or decoding is too slow: add CPU nodes, or use fewer GPUs.",
    ),
    (
        "FaceattrSpilling",
        "sum(ray_data_obj_store_mem_spilled) > 1e9",
        "10m",
        "warn",
        "Ray Data has spilled more than 1 GB to disk",
        "Give the nodes more object store memory, or use smaller blocks (--workers.block-rows).",
    ),
)


def build_rules() -> dict[str, Any]:
    """Returns the rule file."""
    rules = [
        {
            "alert": name,
            "expr": expression,
            "for": duration,
            "labels": {"severity": severity},
            "annotations": {"summary": summary, "description": remedy},
        }
        for name, expression, duration, severity, summary, remedy in ALERTS
    ]
    return {"groups": [{"name": "faceattr", "interval": "30s", "rules": rules}]}
