"""Writes dashboards, alerts and scrape configs: `python -m faceattr.watch.write cluster`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from faceattr.watch.alerts import build_rules
from faceattr.watch.grafana import build_dashboard
from faceattr.watch.panels import DASHBOARDS
from faceattr.watch.prometheus import build_kubernetes_prometheus_config, build_prometheus_config

_HEADER = "# Written by `python -m faceattr.watch.write cluster`; change faceattr/watch/ and write it again.\n"


def render_files() -> dict[str, str]:
    """Returns path below the output folder -> text."""
    files = {
        f"grafana/{dashboard.name}.json": json.dumps(build_dashboard(dashboard), indent=1) + "\n"
        for dashboard in DASHBOARDS
    }
    return files | {
        "prometheus/alerts.yaml": _yaml(build_rules()),
        "prometheus/prometheus.yaml": _yaml(build_prometheus_config()),
        "prometheus/prometheus-kubernetes.yaml": _yaml(build_kubernetes_prometheus_config()),
    }


def _yaml(value: dict[str, Any]) -> str:
    return _HEADER + yaml.safe_dump(value, sort_keys=False, width=120)


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the files below the given folder."""
    (folder,) = sys.argv[1:] if argv is None else argv
    for name, text in render_files().items():
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
