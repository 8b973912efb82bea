"""Uncertainty of figures: intervals, and the bootstrap over images and groups."""
