"""Search: spaces of settings, how trials are drawn and judged, and their records. No Ray."""
