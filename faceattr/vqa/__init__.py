"""Questions to scores: how likely a visual question answering model finds each answer to each question on an image."""
