"""Packed runs, which training reads: splits, order, copies of images, reading and writing."""
