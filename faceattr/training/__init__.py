"""Training of a multi-attribute model: targets, losses, metrics, and a loop that is independent of any cluster."""
