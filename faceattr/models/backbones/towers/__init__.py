"""The vision towers of transformers: their kinds, configs and image processors, and CLIP weights without a config."""
