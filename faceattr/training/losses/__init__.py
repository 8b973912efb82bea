"""Losses: of one attribute with missing labels, and of all attributes together."""
