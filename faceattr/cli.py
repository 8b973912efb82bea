"""Flags and YAML to a config, errors to exit codes; and the `faceattr` command.

tyro generates the flags from the config dataclasses. A YAML file given by `--config` is turned into flags that precede
the user's own, so that one piece of code parses and checks both, and flags override the file.
"""

import contextlib
import difflib
import io
import logging
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, cast

import tyro

from faceattr.commands.table import COMMANDS, Command, find_command
from faceattr.config.flags import find_unknown_flag, gather_flags, list_flags, name_flag
from faceattr.data.stores.addresses import check_no_credentials
from faceattr.errors import ConfigError
from faceattr.guard import guarded, interruptible
from faceattr.interrupt import EXIT_CODE, RUN_STOPPED, STOPPED, set_message
from faceattr.layers import Setting, find_preset, read_recorded, read_settings
from faceattr.logs import (
    LOG_FORMATS,
    LogFormat,
    configure_logging,
    describe_message,
    is_json,
    is_log_format,
    say_error,
)
from faceattr.timeline import log_timeline, note
from faceattr.version import __version__

_Config = TypeVar("_Config")
_HELP = ("--help", "-h")
_LOG_FORMAT = "--log-format"
_NOTES = """--config FILE: a YAML file with any of these settings; flags override it.
--log-format json: one JSON object a line in place of text, for programs."""
# The frames that tyro draws around its messages.
_FRAME = re.compile("[\u2500-\u257f]")


def run_job(
    config_class: type[_Config],
    job: Callable[[_Config], int],
    argv: Sequence[str] | None,
    description: str | None,
    *,
    presets: Path | None = None,
    prog: str | None = None,
) -> int:
    """Runs a script's `main`: parses, runs the job, maps errors to exit codes (0 done, 1 failed run, 2 bad config)."""

    def run() -> int:
        words = begin_logging(sys.argv[1:] if argv is None else argv)
        return _run_job(config_class, job, words, description, presets=presets, prog=prog)

    return guarded(run)


def _run_job(
    config_class: type[_Config],
    job: Callable[[_Config], int],
    words: Sequence[str],
    description: str | None,
    *,
    presets: Path | None,
    prog: str | None,
) -> int:
    note("imports done")
    try:
        return interruptible(lambda: job(parse_config(config_class, words, description, presets=presets, prog=prog)))
    finally:
        note("done")
        log_timeline()


def begin_logging(words: Sequence[str]) -> list[str]:
    """Sets the format of the log by `--log-format`, which may stand anywhere; returns the other words.

    Raises:
        ConfigError: no such format, or it is given twice.
    """
    rest: list[str] = []
    given: list[str] = []
    waiting = iter(words)
    for word in waiting:
        name, equals, value = word.partition("=")
        if name in (_LOG_FORMAT, _LOG_FORMAT.replace("log-", "log_")):
            given.append(value if equals else next(waiting, ""))
        else:
            rest.append(word)
    if len(given) > 1:
        raise ConfigError(f"{_LOG_FORMAT}: given twice, first as {given[0]!r}; it takes one value, so leave one out")
    for value in given:
        if not is_log_format(value):
            raise ConfigError(f"{_LOG_FORMAT}: expected {' or '.join(LOG_FORMATS)}, found {value!r}")
    configure_logging(log_format=cast(LogFormat, given[0]) if given else None)
    _tell_of_stop(RUN_STOPPED)
    return rest


def _tell_of_stop(message: str) -> None:
    line = describe_message(message, level=logging.WARNING, exit_code=EXIT_CODE) if is_json() else message
    set_message(message, line)


def parse_words(
    config_class: type[_Config], words: Sequence[str], *, prog: str | None, description: str | None = None
) -> _Config:
    """Returns a config from flags by tyro. Raises SystemExit: a flag is wrong (code 2), or help was asked for (0)."""
    unknown = find_unknown_flag(config_class, words)
    if unknown is not None:
        raise ConfigError(f"{prog or Path(sys.argv[0]).name}: {unknown}")
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown) if is_json() else contextlib.nullcontext():
            return tyro.cli(config_class, args=words, prog=prog, description=description)
    except SystemExit as end:
        if end.code and shown.getvalue():
            say_error(" ".join(_FRAME.sub(" ", shown.getvalue()).split()), exit_code=end.code)
        raise


def parse_config(
    config_class: type[_Config],
    argv: Sequence[str],
    description: str | None = None,
    *,
    presets: Path | None = None,
    prog: str | None = None,
) -> _Config:
    """Returns a config from flags and, if `--config FILE` is among them, a YAML file that the flags override.

    Args:
        config_class: a frozen dataclass.
        argv: words of the command line.
        description: text at the top of the help.
        presets: folder of YAML files; `--preset NAME` reads one of them, which the file and the flags override. All of
            them override the settings of the run that `--resume-from` names.
        prog: the command, for the help; by default the name of the script.

    Raises:
        ConfigError: a key of the file is unknown, or a value is out of range.
        SystemExit: a flag is wrong (code 2) or help was asked for (code 0).
    """
    rest = [part for word in argv for part in _split_file_flag(word)]
    _check_words(rest)
    rest = gather_flags(config_class, rest)
    layers: list[tuple[str, list[Setting]]] = []
    if "--config" in rest:
        path = _word_behind(rest, "--config", "the path of a YAML file")
        place = rest.index("--config")
        del rest[place : place + 2]
        if "--config" in rest:
            raise ConfigError(f"--config: given twice, first as {path!r}; it takes one file, so leave one out")
        layers.append((f"--config {path}", read_settings(config_class, path, f"--config {path}")))
    if presets is not None:
        named = [each.words[0].partition("=")[2] for _, layer in layers for each in layer if each.flag == "preset"]
        if "--preset" in rest:
            named = [_word_behind(rest, "--preset", "a name")]
        if named and named[0] != "None":
            source = f"--preset {named[0]}"
            layers.append((source, read_settings(config_class, find_preset(presets, named[0]), source)))
    if any(flag == "resume-from" for flag, _, _ in list_flags(config_class)):
        earlier = _value_of("resume-from", rest, layers)
        if earlier is not None:
            source = f"--resume-from {earlier}"
            endpoint_url = _value_of("storage.endpoint-url", rest, layers)
            layers.append((source, read_recorded(config_class, earlier, source, endpoint_url=endpoint_url)))
    words = list(rest)
    kinds = {flag: kind for flag, _, kind in list_flags(config_class)}
    given = {name_flag(word, kinds) for word in rest if word.startswith("--")}
    for source, layer in layers:
        _check_words([word for each in layer for word in each.words])
        used = [each for each in layer if each.flag not in given]
        for each in used:
            if each.problem is not None:
                say_error(f"{source}: {each.problem}")
                raise SystemExit(2)  # as for a wrong flag
        words = [word for each in used for word in each.words] + words
        given |= {each.flag for each in layer}
    return parse_words(config_class, words, prog=prog, description="\n\n".join(filter(None, [description, _NOTES])))


def _value_of(flag: str, words: Sequence[str], layers: Sequence[tuple[str, list[Setting]]]) -> str | None:
    """Returns the value of a flag that takes one, from the words or else the first layer that has it."""
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") == f"--{flag}":
            found = value if equals else _word_behind(words[place:], word, "a value")
            return None if found == "None" else found
    values = [each.words[0].partition("=")[2] for _, layer in layers for each in layer if each.flag == flag]
    return values[0] if values and values[0] != "None" else None


def _split_file_flag(word: str) -> list[str]:
    return word.split("=", 1) if word.startswith(("--config=", "--preset=")) else [word]


def _word_behind(words: Sequence[str], flag: str, what: str) -> str:
    place = words.index(flag) + 1
    if place == len(words):
        raise ConfigError(f"{flag}: expected {what} after it")
    return words[place]


def _check_words(words: Sequence[str]) -> None:
    """Refuses credentials in any value, before an error about another value could print them."""
    flag = "the command line"
    for word in words:
        if word.startswith("--"):
            flag = word.partition("=")[0]
        check_no_credentials(word, flag)


def _describe_unknown(arguments: Sequence[str]) -> str:
    """Returns the words that name no command, and the command with the most similar name."""
    names = [" ".join(each.words) for each in COMMANDS]
    asked = " ".join(arguments[:2] if any(name.startswith(f"{arguments[0]} ") for name in names) else arguments[:1])
    near = difflib.get_close_matches(asked, names, n=1)
    return repr(asked) + (f"; did you mean {near[0]!r}?" if near else "")


def _describe_commands(commands: Sequence[Command]) -> str:
    width = max(len(" ".join(each.words)) for each in commands)
    return "\n".join(["usage:", *(f"  faceattr {' '.join(each.words):{width}}  {each.help}" for each in commands)])


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the `faceattr` command. Exit codes as in `run_job`."""
    return guarded(lambda: _run_command(begin_logging(sys.argv[1:] if argv is None else argv)))


def _run_command(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["--version"]:
        print(f"faceattr {__version__}")
        return 0
    command = find_command(arguments)
    if command is None:
        return _show_commands(arguments)
    rest = arguments[len(command.words) :]
    prog = f"faceattr {' '.join(command.words)}"
    job = command.resolve_job()
    if job is not None:
        description = sys.modules[job.__module__].__doc__
        return _run_job(command.resolve(), job, rest, description, presets=command.resolve_presets(), prog=prog)
    if not command.resumes:
        _tell_of_stop(STOPPED)
    _check_words(rest)
    words = gather_flags(command.resolve(), rest)
    return interruptible(lambda: int(parse_words(command.resolve(), words, prog=prog)()))


def _show_commands(arguments: Sequence[str]) -> int:
    """Prints the commands, or the ones of a group, because none was named or help was asked for."""
    words = [word for word in arguments if word not in _HELP]
    group = [each for each in COMMANDS if words and each.words[: len(words)] == tuple(words)]
    asked_for_help = len(words) < len(arguments)
    fine = asked_for_help and (group or not words)
    print(_describe_commands(group or COMMANDS), file=sys.stdout if fine else sys.stderr)
    if words and not group:
        say_error(f"no such command: {_describe_unknown(words)}")
    elif words and not asked_for_help:
        say_error(f"faceattr {' '.join(words)}: a further word is missing")
    return 0 if fine else 2
