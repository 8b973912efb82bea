"""A training that starts from a checkpoint of another one, with other settings."""
