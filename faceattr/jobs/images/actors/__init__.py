"""The actors that hold a model: blocks of images in, rows out."""
