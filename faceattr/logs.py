"""Logging: one event per line, `key=value` with units, or as JSON. Only entry points call `configure_logging`.

As JSON (`--log-format json`) every line of standard error and standard output is an object with `time`, `level`,
`logger` and `message`, and with what the event measured; docs/running.md lists the keys.
"""

import json
import logging
import math
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, Literal, TextIO, get_args

from faceattr.errors import ConfigError, escape

LogFormat = Literal["text", "json"]
LOG_FORMATS: tuple[LogFormat, ...] = get_args(LogFormat)
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_PACKAGE = "faceattr"


class _Utc(logging.Formatter):
    """Formats times in UTC."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - of logging
        """Returns the time of a record, by default as in RFC 3339."""
        return time.strftime(datefmt or _TIME, time.gmtime(record.created))


class _OneLine(_Utc):
    """Formats an event as one line, whatever its values contain; a traceback follows on its own lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name that logging calls
        """Returns the line without a traceback."""
        return escape(super().formatMessage(record))


class _JsonLine(_Utc):
    """Formats an event as one JSON object in ASCII, in which a terminal finds no control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the object; a traceback is its value `traceback`."""
        value: dict[str, Any] = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            value["traceback"] = self.formatException(record.exc_info)
        return json.dumps({key: _finite(each) for key, each in value.items()}, default=str)


class _ToStandardError(logging.Handler):
    """Writes to what `sys.stderr` is at the moment: `hush_native` changes it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a record."""
        try:
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()
        except OSError:  # a closed pipe or a full disk; logging says nothing of it either where it cannot
            self.handleError(record)


def _finite(value: Any) -> Any:
    """Returns None for a number that JSON cannot represent."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def configure_logging(level: str | None = None, *, log_format: LogFormat | None = None) -> None:
    """Sends log lines to standard error, times in UTC.

    Args:
        level: the least level; by default `FACEATTR_LOG_LEVEL`, or INFO.
        log_format: by default `FACEATTR_LOG_FORMAT`, or text.

    Raises:
        ConfigError: the environment names a format that does not exist.
    """
    chosen = (level or os.environ.get("FACEATTR_LOG_LEVEL") or "INFO").upper()
    found = log_format or os.environ.get("FACEATTR_LOG_FORMAT") or "text"
    if found not in LOG_FORMATS:
        raise ConfigError(f"FACEATTR_LOG_FORMAT={found}: expected one of {', '.join(LOG_FORMATS)}")
    handler = _ToStandardError()
    text = _OneLine("%(asctime)s %(levelname)s %(name)s %(message)s")
    handler.setFormatter(_JsonLine() if found == "json" else text)
    root = logging.getLogger(_PACKAGE)
    root.handlers = [handler]
    root.setLevel(chosen)
    root.propagate = False


def is_json() -> bool:
    """Whether lines are JSON objects."""
    return any(isinstance(each.formatter, _JsonLine) for each in logging.getLogger(_PACKAGE).handlers)


def is_debugging() -> bool:
    """Whether messages for developers are shown: FACEATTR_LOG_LEVEL=DEBUG."""
    return logging.getLogger(_PACKAGE).isEnabledFor(logging.DEBUG)


def measured(**fields: object) -> Mapping[str, Any]:
    """Returns the `extra` of a log call: values that a JSON line has as keys of its own, beside its message.

    Args:
        fields: numbers and texts by key. They must not be named `time`, `level`, `logger` or `message`.
    """
    return {"fields": fields}


def say(text: str, *, stream: TextIO | None = None) -> None:
    """Prints text for the user to standard output; control characters in it are escaped. As JSON, it is one object."""
    line = describe_message(text) if is_json() else escape(text, keep="\n")
    print(line, file=stream or sys.stdout, flush=True)


def say_error(text: str, *, prefix: str = "error: ", level: int = logging.ERROR, **fields: object) -> None:
    """Prints why a command ended to standard error, in one message.

    Args:
        text: the reason; its own line breaks stay.
        prefix: what stands in front of it if it is not JSON.
        level: its level in JSON.
        fields: further keys of the JSON object.
    """
    line = describe_message(text, level=level, **fields) if is_json() else f"{prefix}{escape(text, keep=chr(10))}"
    print(line, file=sys.stderr, flush=True)


def describe_message(text: str, *, level: int = logging.INFO, **fields: object) -> str:
    """Returns a message to the user as the JSON object of a line."""
    record = logging.LogRecord(_PACKAGE, level, "", 0, "%s", (text,), None)
    record.fields = fields
    return _JsonLine().format(record)


def is_log_format(word: str) -> bool:
    """Whether a word names a format."""
    return word in LOG_FORMATS
