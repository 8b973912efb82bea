"""The train job: a group of workers under DDP. `run.py` contains its steps, `worker.py` what each worker does."""
