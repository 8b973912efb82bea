"""Questions to scores: how likely BLIP finds each answer to each question about an image."""
