"""The packed engine's network: modules over a checkpoint's tensors, without transformers."""
