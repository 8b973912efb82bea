"""Dashboards in the format of Grafana."""

from typing import Any

from faceattr.watch.panels import Dashboard, Panel

_WIDTH, _HEIGHT, _COLUMNS = 12, 8, 2
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def build_dashboard(dashboard: Dashboard) -> dict[str, Any]:
    """Returns the JSON model of a dashboard."""
    return {
        "uid": f"faceattr-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["faceattr", "ray"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
                _text_box("gpu_price", "USD a GPU hour", "0"),
                _text_box("core_price", "USD a core hour", "0"),
            ]
        },
        "panels": [_panel(panel, place) for place, panel in enumerate(dashboard.panels)],
    }


def _text_box(name: str, label: str, value: str) -> dict[str, Any]:
    current = {"text": value, "value": value, "selected": True}
    return {"name": name, "label": label, "type": "textbox", "query": value, "current": current, "options": [current]}


def _panel(panel: Panel, place: int) -> dict[str, Any]:
    row, column = divmod(place, _COLUMNS)
    return {
        "id": place + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.text,
        "datasource": _DATASOURCE,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": {"fillOpacity": 8}}, "overrides": []},
        "options": {
            "legend": {"showLegend": True, "displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": _DATASOURCE, "expr": expression, "legendFormat": legend}
            for number, (expression, legend) in enumerate(panel.queries)
        ],
    }
