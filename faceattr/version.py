"""The version of the package, as pyproject.toml has it; every run folder and checkpoint records it."""

__version__ = "0.1.0"
