"""LoRA: small trainable matrices beside frozen linear layers."""
