"""Labels that are probably wrong: what heads that have not seen a label think of it, and a ranked list."""
