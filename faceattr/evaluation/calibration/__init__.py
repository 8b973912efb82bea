"""Calibration: maps from scores to probabilities, the choice of one, and how good it is."""
