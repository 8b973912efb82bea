"""Inference with a trained model: predictions for images, drawn pictures, and export for other runtimes."""
