"""BLIP VQA: its checkpoints, the packed scorer, and the Hugging Face modules as reference."""
