"""Lines for programs: `--log-format json`."""

import io
import json
import logging
import re
import subprocess
import sys

import pytest

from faceattr.cli import begin_logging, main, run_job
from faceattr.config import LabelConfig
from faceattr.errors import ConfigError, RunError
from faceattr.logs import configure_logging, measured, say
from faceattr.search.progress_table import Board

logger = logging.getLogger("faceattr.jobs.example")
GIVEN = ["--images", "a", "--output", "b"]


@pytest.fixture(autouse=True)
def _logging_as_before():
    ours = logging.getLogger("faceattr")
    handlers, level, propagate = ours.handlers, ours.level, ours.propagate
    yield
    ours.handlers, ours.level, ours.propagate = handlers, level, propagate


def objects(text):
    return [json.loads(line) for line in text.splitlines()]


def test_every_line_is_an_object_with_the_same_keys(capsys):
    configure_logging("INFO", log_format="json")
    logger.info("plan rows=%d", 3)
    logger.warning("a\nb\x1b[31m", extra=measured(event="progress", done=2, rate=float("nan")))
    try:
        raise ValueError("why")
    except ValueError:
        logger.exception("failed")
    say("published\nversion 1")
    shown = capsys.readouterr()
    assert shown.err.isascii()
    assert "\x1b" not in shown.err
    first, second, third = objects(shown.err)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", first.pop("time"))
    assert first == {"level": "INFO", "logger": "faceattr.jobs.example", "message": "plan rows=3"}
    assert (second["message"], second["done"], second["rate"]) == ("a\nb\x1b[31m", 2, None)
    assert third["traceback"].endswith("ValueError: why")
    (said,) = objects(shown.out)
    assert (said["level"], said["logger"], said["message"]) == ("INFO", "faceattr", "published\nversion 1")


def test_text_is_the_default_and_the_flag_wins_over_the_environment(capsys, monkeypatch):
    begin_logging([])
    logger.info("plan")
    monkeypatch.setenv("FACEATTR_LOG_FORMAT", "json")
    begin_logging([])
    logger.info("plan")
    begin_logging(["--log-format", "text"])
    logger.info("plan")
    text, as_json, again = capsys.readouterr().err.splitlines()
    assert text.endswith(" INFO faceattr.jobs.example plan")
    assert json.loads(as_json)["message"] == "plan"
    assert again.endswith(" INFO faceattr.jobs.example plan")
    monkeypatch.setenv("FACEATTR_LOG_FORMAT", "xml")
    with pytest.raises(ConfigError, match="FACEATTR_LOG_FORMAT=xml: expected one of text, json"):
        begin_logging([])


@pytest.mark.parametrize("words", [["--log-format", "json"], ["--log-format=json"], ["--log_format=json"]])
def test_the_flag_may_stand_anywhere_and_is_none_of_the_command(words):
    assert begin_logging(["label", *words, "--images", "x"]) == ["label", "--images", "x"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--log-format", "xml"], "--log-format: expected text or json, found 'xml'"),
        (["--log-format"], "--log-format: expected text or json, found ''"),
        (["--log-format=json", "--log-format=text"], "--log-format: given twice, first as 'json'"),
    ],
)
def test_a_wrong_format_is_refused(words, problem, capsys):
    assert main(["plan", *words]) == 2
    assert capsys.readouterr().err.startswith(f"error: {problem}")


def raising(error):
    def job(config):
        raise error

    return job


@pytest.mark.parametrize(
    ("job", "words", "level", "code"),
    [
        (raising(RunError("rows are missing")), [], "ERROR", 1),
        (raising(KeyboardInterrupt()), [], "WARNING", 130),
        (raising(AssertionError()), ["--limit", "0"], "ERROR", 2),
        (raising(AssertionError()), ["--imags", "0"], "ERROR", 2),
    ],
)
def test_how_a_command_ends_is_an_object_with_the_exit_code(capsys, job, words, level, code):
    assert run_job(LabelConfig, job, [*GIVEN, *words, "--log-format", "json"], None) == code
    (ended,) = objects(capsys.readouterr().err)
    assert (ended["level"], ended["exit_code"]) == (level, code)


def test_a_value_that_the_parser_refuses_is_one_object_too(capsys):
    with pytest.raises(SystemExit) as end:
        main(["label", *GIVEN, "--limit", "many", "--log-format", "json"])
    assert end.value.code == 2
    (ended,) = objects(capsys.readouterr().err)
    assert ended["exit_code"] == 2
    assert "--limit" in ended["message"]
    assert ended["message"].isascii()


def test_the_table_of_a_search_is_objects():
    configure_logging("INFO", log_format="json")
    stream = io.StringIO()
    board = Board(2, 0, stream)
    board.row("t1", "1/2", 0.5, float("nan"), "running")
    board.finished(0.75, "t1")
    board.row("t1", "2/2", 0.75, None, "finished")
    first, second = objects(stream.getvalue())
    assert (first["event"], first["trial"], first["objective"], first["auxiliary"]) == ("trial", "t1", 0.5, None)
    assert (second["state"], second["best"]) == ("finished", 0.75)


def test_help_into_a_closed_pipe_is_silent():
    code = "import sys; from faceattr.cli import main; sys.exit(main(sys.argv[1:]))"
    for words in (["--help"], ["status", "--help"], ["--version"]):
        command = " ".join([sys.executable, "-c", f"'{code}'", *words])
        ended = subprocess.run(
            f"({command}) | true", shell=True, executable="/bin/bash", stderr=subprocess.PIPE, text=True, check=False
        )
        assert ended.stderr == "", words
