"""Image-text-to-text models of transformers: a vision tower, a decoder that reads its tokens, a chat template."""
