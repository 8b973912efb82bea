"""Packed runs, the input of training: splits, order, copies of images, reading and writing."""
