"""Duration, resources and cost of a run, calculated from a table of measured rates. No torch, no Ray."""
