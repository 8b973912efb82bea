"""Rows of small images in a report: the worst mistakes, the most doubtful, the surest."""
