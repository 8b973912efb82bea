"""A tiny CLIP, trained on drawn faces and captions, which shows that labels by prompts mean what they say."""
