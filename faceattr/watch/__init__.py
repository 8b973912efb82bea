"""What is watched while jobs run: metrics, dashboards, alerts. Standard library and PyYAML; no torch, no Ray."""
