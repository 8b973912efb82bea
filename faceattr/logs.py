"""Logging: one event a line, `key=value` with units. Only entry points call `configure_logging`."""

import logging
import os
import sys
import time
from typing import TextIO

from faceattr.errors import escape


class _OneLine(logging.Formatter):
    """An event is one line, whatever stands in the names that it gives; tracebacks follow on their own lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name that logging calls
        """The line without a traceback."""
        return escape(super().formatMessage(record))


def configure_logging(level: str | None = None) -> None:
    """Sends log lines to standard error, UTC. Level from the argument, `FACEATTR_LOG_LEVEL`, or INFO."""
    chosen = (level or os.environ.get("FACEATTR_LOG_LEVEL") or "INFO").upper()
    handler = logging.StreamHandler(sys.stderr)
    formatter = _OneLine("%(asctime)s %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger("faceattr")
    root.handlers = [handler]
    root.setLevel(chosen)
    root.propagate = False


def say(text: str, *, stream: TextIO | None = None) -> None:
    """Prints what the user reads, to standard output; names in it cannot steer the terminal."""
    print(escape(text, keep="\n"), file=stream or sys.stdout, flush=True)
