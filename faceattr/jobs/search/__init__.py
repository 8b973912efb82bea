"""The search job: trials of the train job by Ray Tune. `run.py` holds its steps."""
