"""The list of metrics, and what is generated from it: every name in a picture or an alert is one that is exported.

What the jobs really export is looked at in tests/cluster/test_jobs.py, during a run.
"""

import ast
import json
import re
import shutil
import subprocess
from pathlib import Path

import promql_parser
import pytest
import yaml

from faceattr.errors import ConfigError
from faceattr.watch.alerts import ALERTS
from faceattr.watch.grafana import build_dashboard
from faceattr.watch.metrics import (
    METRICS,
    RAY_AUTOSCALER_METRICS,
    RAY_GPU_METRICS,
    RAY_METRICS,
    find_metric,
)
from faceattr.watch.panels import DASHBOARDS
from faceattr.watch.write import render_files
from tests.watch.exported import metrics_of

ROOT = Path(__file__).parents[2]
KNOWN = {name for metric in METRICS for name in metric.series} | {
    name for names in (RAY_METRICS, RAY_GPU_METRICS, RAY_AUTOSCALER_METRICS) for name in names
}
QUERIES = [
    pytest.param(query, id=f"{dashboard.name}: {panel.title}: {legend}")
    for dashboard in DASHBOARDS
    for panel in dashboard.panels
    for query, legend in panel.queries
]


def names_in(query: str) -> set[str]:
    """Metric names of a query, by a real PromQL parser. Grafana's own variables stand for numbers."""
    promql_parser.parse(re.sub(r"\$[a-z_]+", "1", query))
    words = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", "", query)
    return set(re.findall(r"\b(?:ray|autoscaler)_[a-z_]+", words))


@pytest.mark.parametrize("query", QUERIES)
def test_pictures_show_what_is_exported(query):
    assert names_in(query) - KNOWN == set()
    assert names_in(query)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert[0])
def test_alerts_watch_what_is_exported(alert):
    _, query, duration, severity, summary, remedy = alert
    assert names_in(query) - KNOWN == set()
    assert re.fullmatch(r"\d+[mh]", duration)
    assert severity in {"page", "warn"}
    assert summary
    assert remedy


def test_a_query_that_is_wrong_is_found():
    with pytest.raises(ValueError, match="unclosed left parenthesis"):
        names_in("sum(rate(ray_actors[5m])")
    assert names_in('max(ray_no_such_thing{state="ray_x"})') == {"ray_no_such_thing"}


def test_no_metric_is_made_for_nobody():
    shown = {name for parameter in QUERIES for name in names_in(parameter.values[0])}
    for metric in METRICS:
        assert shown & set(metric.series), f"{metric.name} is on no dashboard"
    alerted = {name for alert in ALERTS for name in names_in(alert[1])}
    for name in (*RAY_METRICS, *RAY_GPU_METRICS, *RAY_AUTOSCALER_METRICS):
        assert name in shown | alerted, f"{name} is listed and not used"


def test_the_list_itself():
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.name.startswith("faceattr_")
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert bool(metric.boundaries) == (metric.kind == "histogram")
        assert metric.text.endswith(".")
    with pytest.raises(ConfigError, match="no metric 'faceattr_x'"):
        find_metric("faceattr_x")
    assert {metric.name for metric in metrics_of(["label"])} <= {metric.name for metric in METRICS}


def test_jobs_make_metrics_from_the_list_alone():
    """No job names a metric that the list does not hold, and none goes past `faceattr.jobs.cluster.metrics`."""
    known, made = {metric.name for metric in METRICS}, set()
    for path in (ROOT / "faceattr").rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "ray.util.metrics":
                assert path.name == "metrics.py", path
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and node.value in known
                and "watch" not in path.parts
            ):
                made.add(node.value)
    assert made == known


def test_the_files_in_the_repository_are_these():
    for name, text in render_files().items():
        assert (ROOT / "cluster" / name).read_text() == text, f"{name} is old: python -m faceattr.watch.write cluster"
    there = {path.name for path in (ROOT / "cluster" / "grafana").iterdir()}
    assert there == {f"{dashboard.name}.json" for dashboard in DASHBOARDS}


def test_dashboards_are_laid_out_without_overlap():
    for dashboard in DASHBOARDS:
        model = json.loads(json.dumps(build_dashboard(dashboard)))
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in model["panels"]]
        assert len(set(places)) == len(places)
        assert all(place["x"] + place["w"] <= 24 for place in (panel["gridPos"] for panel in model["panels"]))
        assert len({panel["id"] for panel in model["panels"]}) == len(places)
        variables = {variable["name"] for variable in model["templating"]["list"]}
        used = set(re.findall(r"\$\{?([a-z_]+)", json.dumps(model["panels"])))
        assert used <= variables


def test_the_rule_file_has_prometheus_form():
    rules = yaml.safe_load(render_files()["prometheus/alerts.yaml"])
    assert set(rules) == {"groups"}
    for rule in rules["groups"][0]["rules"]:
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
    for name in ("prometheus.yaml", "prometheus-kubernetes.yaml"):
        config = yaml.safe_load(render_files()[f"prometheus/{name}"])
        assert config["rule_files"] == ["alerts.yaml"]
        assert [job["job_name"] for job in config["scrape_configs"]] == ["ray"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_takes_rules_and_config():
    folder = ROOT / "cluster" / "prometheus"
    subprocess.run(["promtool", "check", "rules", str(folder / "alerts.yaml")], check=True, capture_output=True)
    subprocess.run(["promtool", "check", "config", str(folder / "prometheus.yaml")], check=True, capture_output=True)
