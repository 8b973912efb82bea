"""Logging: one event per line, `key=value` with units. Only entry points call `configure_logging`."""

import logging
import os
import sys
import time
from typing import TextIO

from faceattr.errors import escape


class _OneLine(logging.Formatter):
    """Formats an event as one line, whatever its values contain; a traceback follows on its own lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name that logging calls
        """Returns the line without a traceback."""
        return escape(super().formatMessage(record))


def configure_logging(level: str | None = None) -> None:
    """Sends log lines to standard error, times in UTC. The level is `level`, `FACEATTR_LOG_LEVEL`, or INFO."""
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
    """Prints text for the user to standard output; control characters in it are escaped."""
    print(escape(text, keep="\n"), file=stream or sys.stdout, flush=True)
