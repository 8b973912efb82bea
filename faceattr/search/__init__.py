"""Search: spaces of settings, how trials are drawn and judged, what is kept of them. No Ray."""
