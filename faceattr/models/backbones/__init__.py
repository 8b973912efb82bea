"""Backbones by name, from timm and transformers, each as an ordered list of blocks."""
