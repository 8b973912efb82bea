"""Evaluation of models: figures with intervals, calibration, thresholds and comparisons between groups."""
