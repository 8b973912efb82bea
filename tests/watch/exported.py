"""Which metrics a job exports, for tests that compare them with what Prometheus sees."""

from collections.abc import Sequence

from faceattr.watch.metrics import METRICS, Metric


def metrics_of(jobs: Sequence[str]) -> tuple[Metric, ...]:
    """The metrics that any of some jobs export."""
    return tuple(metric for metric in METRICS if set(jobs) & set(metric.jobs))
