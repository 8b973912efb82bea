"""Bytes and tables: stores, images, plans, commits. No model, no Ray."""
