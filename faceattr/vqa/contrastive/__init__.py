"""CLIP, SigLIP and SigLIP 2: an image and a text are embedded alike, and the answer whose text is nearest is likely."""
