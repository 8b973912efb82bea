"""The package's version, equal to the one in pyproject.toml; every run folder and checkpoint records it."""

__version__ = "0.1.0"
