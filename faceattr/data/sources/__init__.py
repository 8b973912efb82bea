"""Foreign label layouts, and our own label runs, as one table. Start at `registry.open_source`."""
