"""Training on cached activations: the cache, its key, its batches, and stacks of heads."""
