"""How long a run will take, on what, and what it costs: arithmetic over a table of measured rates. No torch, no Ray."""
