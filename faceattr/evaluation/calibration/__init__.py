"""Calibration: maps from scores to probabilities, the choice of a map, and measures of calibration error."""
