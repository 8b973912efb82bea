"""Data: stores, images, tables, sources, packed runs and their commits. No model, no Ray."""
