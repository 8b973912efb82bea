"""How Prometheus finds the metrics: Ray's own list of nodes on virtual machines, pods by label on Kubernetes."""

from typing import Any

_RULES = "alerts.yaml"


def build_prometheus_config() -> dict[str, Any]:
    """Returns the config of Prometheus on the head of a cluster of machines: the head writes the list of targets."""
    targets = {"files": ["/tmp/ray/prom_metrics_service_discovery.json"]}  # noqa: S108 - where `ray start` writes it
    return _config([{"job_name": "ray", "file_sd_configs": [targets]}])


def build_kubernetes_prometheus_config() -> dict[str, Any]:
    """Returns the config of Prometheus in the Kubernetes namespace of the Ray clusters."""

    def keep(label: str, pattern: str) -> dict[str, Any]:
        return {"source_labels": [label], "regex": pattern, "action": "keep"}

    pods = {
        "job_name": "ray",
        "kubernetes_sd_configs": [{"role": "pod", "namespaces": {"names": ["faceattr"]}}],
        "relabel_configs": [
            keep("__meta_kubernetes_pod_label_ray_io_is_ray_node", "yes"),
            keep("__meta_kubernetes_pod_container_port_name", "metrics|as-metrics"),
            {"source_labels": ["__meta_kubernetes_pod_label_ray_io_cluster"], "target_label": "ray_cluster"},
            {"source_labels": ["__meta_kubernetes_pod_label_ray_io_group"], "target_label": "group"},
            {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
        ],
    }
    return _config([pods])


def _config(scrapes: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "global": {"scrape_interval": "10s", "evaluation_interval": "10s"},
        "rule_files": [_RULES],
        "scrape_configs": scrapes,
    }
