"""Names of files on a terminal: what would steer it is written out, everything else stays as it is."""

import io
import logging
import sys

import pytest

from faceattr.errors import ConfigError, escape
from faceattr.logs import configure_logging, say


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain name.jpg", "plain name.jpg"),
        ("Zoë 佐藤 👩‍🦰.jpg", "Zoë 佐藤 👩‍🦰.jpg"),
        ("\x1b[31mred\x1b[0m.jpg", r"\x1b[31mred\x1b[0m.jpg"),
        ("\x1b]0;title\x07.jpg", r"\x1b]0;title\x07.jpg"),
        ("\x9b31mred.jpg", r"\x9b31mred.jpg"),
        ("a\nerror: done\r.jpg", r"a\nerror: done\r.jpg"),
        ("tab\t\x7f\x00", r"tab\t\x7f\x00"),
        ("gpj.\u202egnp.jpg", r"gpj.\u202egnp.jpg"),
        ("\u2066x\u2069\u200e\u061c", r"\u2066x\u2069\u200e\u061c"),
        ("line\u2028end\u2029", r"line\u2028end\u2029"),
        # A file name whose byte 0xFF is no UTF-8, as os.listdir gives it.
        (b"caf\xff.jpg".decode("utf-8", "surrogateescape"), r"caf\xff.jpg"),
        ("half \ud83d", r"half \ud83d"),
    ],
)
def test_what_would_steer_a_terminal_is_written_out(name, shown):
    assert escape(name) == shown
    shown.encode()


def test_line_breaks_of_our_own_messages_stay():
    assert escape("two\nlines\x1b[2J", keep="\n") == "two\nlines\\x1b[2J"


def test_a_message_of_several_lines_is_said_as_such():
    stream = io.StringIO()
    say("a\n  b\x1b[2J", stream=stream)
    assert stream.getvalue() == "a\n  b\\x1b[2J\n"


def test_a_log_event_is_one_line_whatever_stands_in_a_name(capsys):
    logger = logging.getLogger("faceattr")
    before = logger.handlers, logger.level, logger.propagate
    try:
        configure_logging("INFO")
        logger.info("read %s", "a\nb\x1b[31m.jpg")
        try:
            raise ConfigError("x")
        except ConfigError:
            logger.exception("failed %s", "c\x9b.jpg")
    finally:
        logger.handlers, logger.level, logger.propagate = before
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith(r"read a\nb\x1b[31m.jpg")
    assert lines[1].endswith(r"failed c\x9b.jpg")
    assert lines[2] == "Traceback (most recent call last):"


def test_standard_output_is_the_default(capsys):
    say("done")
    assert capsys.readouterr().out == "done\n"
    assert sys.stdout is not None
