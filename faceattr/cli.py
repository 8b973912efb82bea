"""Flags and YAML to a config, errors to exit codes; and the `faceattr` command.

tyro generates the flags from the config dataclasses. A YAML file given by `--config` is turned into flags that precede
the user's own, so that one piece of code parses and checks both, and flags override the file.
"""

import contextlib
import difflib
import errno
import gc
import io
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO, TypeVar

import tyro

from faceattr.commands.table import COMMANDS, Command, find_command
from faceattr.config.flags import gather_flags, list_flags, name_flag
from faceattr.data.stores.addresses import check_no_credentials
from faceattr.data.stores.patience import leave_on
from faceattr.errors import ConfigError, FaceattrError, escape
from faceattr.interrupt import STOPPED
from faceattr.layers import Setting, find_preset, read_recorded, read_settings
from faceattr.logs import configure_logging
from faceattr.timeline import log_timeline, note
from faceattr.version import __version__

_Config = TypeVar("_Config")
# Our own messages may have several lines; line breaks in names are escaped before.
_OWN_BREAKS = "\n"
_HELP = ("--help", "-h")
# System errors of a full or read-only disk: a condition of the machine, not a fault in our code.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


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
    configure_logging()
    note("imports done")
    words = sys.argv[1:] if argv is None else argv
    code = _guarded(lambda: job(parse_config(config_class, words, description, presets=presets, prog=prog)))
    note("done")
    log_timeline()
    return code


def _guarded(action: Callable[[], int]) -> int:
    """Runs a command; its errors become one line and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name the terminal cannot encode is no error
            stream.reconfigure(errors="backslashreplace")
    try:
        with leave_on(signal.SIGINT, then_stay=True):
            code = _mapped(action)
    except BrokenPipeError:
        if not _is_unread(sys.stdout) and not _is_unread(sys.stderr):
            raise
        code = 128 + signal.SIGPIPE
    return _flush_output(code)


def _mapped(action: Callable[[], int]) -> int:
    try:
        return action()
    except FaceattrError as error:
        _release(error)
        print(f"error: {escape(error, keep=_OWN_BREAKS)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as error:
        _release(error)
        print(STOPPED, file=sys.stderr)
        return 130
    except OSError as error:
        if error.errno not in _FULL:
            raise
        where = error.filename or "standard output or a temporary file"
        print(f"error: cannot write to {escape(where)}: {error.strerror}", file=sys.stderr)
        return 1


def _release(error: BaseException) -> None:
    """Releases what the error's frames hold, such as Ray's iterators, whose output would hide our message."""
    silent = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        seen: set[int] = set()
        pending: list[BaseException | None] = [error]
        while pending:
            found = pending.pop()
            if found is None or id(found) in seen:
                continue
            seen.add(id(found))
            traceback.clear_frames(found.__traceback__)
            pending += [found.__cause__, found.__context__]
        gc.collect()
    finally:
        sys.unraisablehook = silent


def _flush_output(code: int) -> int:
    """Flushes standard output while an error can still be reported. A pipe closed by `head` is none; a full disk is."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)
    except OSError as error:
        _discard(sys.stdout)
        print(f"error: cannot write to standard output: {error.strerror}", file=sys.stderr)
        return code or 1
    return code


def _is_unread(stream: TextIO) -> bool:
    """Whether a stream is a pipe whose reader has exited, as `head` does after ten lines."""
    try:
        watched = select.poll()
        watched.register(stream.fileno(), 0)
        return any(events & select.POLLERR for _, events in watched.poll(0))
    except (OSError, ValueError):  # not a file, as in a test
        return False


def _discard(stream: TextIO) -> None:
    # Without this, the interpreter tries to write the rest again at exit, and reports the failure.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


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
                print(f"error: {escape(f'{source}: {each.problem}', keep=_OWN_BREAKS)}", file=sys.stderr)
                raise SystemExit(2)  # as for a wrong flag
        words = [word for each in used for word in each.words] + words
        given |= {each.flag for each in layer}
    note = "--config FILE: a YAML file with any of these settings; flags override it."
    return tyro.cli(config_class, args=words, prog=prog, description="\n\n".join(filter(None, [description, note])))


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
    configure_logging()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["--version"]:
        print(f"faceattr {__version__}")
        return 0
    command = find_command(arguments)
    if command is None:
        words = [word for word in arguments if word not in _HELP]
        group = [each for each in COMMANDS if words and each.words[: len(words)] == tuple(words)]
        asked_for_help = len(words) < len(arguments)
        lines = [_describe_commands(group or COMMANDS)]
        if words and not group:
            lines.append(f"error: no such command: {_describe_unknown(words)}")
        elif words and not asked_for_help:
            lines.append(f"error: faceattr {' '.join(words)}: a further word is missing")
        fine = asked_for_help and (group or not words)
        print("\n".join(lines), file=sys.stdout if fine else sys.stderr)
        return 0 if fine else 2
    rest = arguments[len(command.words) :]
    prog = f"faceattr {' '.join(command.words)}"
    job = command.resolve_job()
    if job is not None:
        description = sys.modules[job.__module__].__doc__
        return run_job(command.resolve(), job, rest, description, presets=command.resolve_presets(), prog=prog)

    def run() -> int:
        _check_words(rest)
        words = gather_flags(command.resolve(), rest)
        code: int = tyro.cli(command.resolve(), args=words, prog=prog)()
        return code

    return _guarded(run)
