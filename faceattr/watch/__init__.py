"""Monitoring of running jobs: metrics, dashboards, alerts. Standard library and PyYAML; no torch, no Ray."""
