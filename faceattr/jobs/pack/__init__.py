"""The pack job: labels and images become the shards that training reads. `run.py` contains its steps."""
