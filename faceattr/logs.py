"""Logging: one event a line, `key=value` with units. Only entry points call `configure_logging`."""

import logging
import os
import sys
import time


def configure_logging(level: str | None = None) -> None:
    """Sends log lines to standard error, UTC. Level from the argument, `FACEATTR_LOG_LEVEL`, or INFO."""
    chosen = (level or os.environ.get("FACEATTR_LOG_LEVEL") or "INFO").upper()
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger("faceattr")
    root.handlers = [handler]
    root.setLevel(chosen)
    root.propagate = False
