"""The evaluation job: packed rows through a trained model, then figures. `run.py` contains its steps."""
