"""Metrics and settings of trainings and searches, for Weights & Biases and MLflow."""
