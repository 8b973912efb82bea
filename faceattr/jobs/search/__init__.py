"""The search job: trials of the train job by Ray Tune. `run.py` contains its steps."""
