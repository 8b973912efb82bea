"""Plots of the reports, drawn with matplotlib."""
