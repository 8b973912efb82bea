"""Rows of several runs over the same images, side by side."""
