"""Flags and YAML to a config, errors to exit codes; and the `faceattr` command.

tyro makes the flags from the config dataclasses. A YAML file given by `--config` is turned into flags that stand in
front of the user's own, so that both are parsed and checked by one piece of code and flags win.
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
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TextIO, TypeVar

import tyro

from faceattr.commands.table import COMMANDS, find_command
from faceattr.config.flags import gather_flags, list_flags, name_flag
from faceattr.data.stores.addresses import check_no_credentials
from faceattr.data.stores.patience import leave, stay
from faceattr.errors import ConfigError, FaceattrError, escape
from faceattr.interrupt import STOPPED
from faceattr.layers import Setting, find_preset, read_settings
from faceattr.logs import configure_logging

_Config = TypeVar("_Config")
# Messages of several lines are ours; names in them have no line breaks left.
_OWN_BREAKS = "\n"
# What the system says of a disk that takes no more; a fact about the machine, not about our code.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


def run_job(
    config_class: type[_Config],
    job: Callable[[_Config], int],
    argv: Sequence[str] | None,
    description: str | None,
    *,
    presets: Path | None = None,
) -> int:
    """The body of a script's `main`: parses, runs, maps errors to exit codes (0 done, 1 failed run, 2 bad config)."""
    configure_logging()
    words = sys.argv[1:] if argv is None else argv
    return _guarded(lambda: job(parse_config(config_class, words, description, presets=presets)))


def _guarded(action: Callable[[], int]) -> int:
    """Runs a command; its errors become one line and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal's encoding lacks ends no command
            stream.reconfigure(errors="backslashreplace")
    try:
        with _leave_on_interrupt():
            code = _mapped(action)
    except BrokenPipeError:
        if not _is_unread(sys.stdout) and not _is_unread(sys.stderr):
            raise
        code = 128 + signal.SIGPIPE
    return _flush_output(code)


@contextlib.contextmanager
def _leave_on_interrupt() -> Iterator[None]:
    """Ctrl-C ends the waits of all threads for a store as well, not only what the main thread does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        leave()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        stay()


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
    """Ends what the error's frames still hold, such as Ray's iterators: what that prints must not hide our line."""
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
    """Writes what is buffered, while an error can still be said; `| head` is none, a full disk is."""
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
    """Whether a stream is a pipe whose reader is gone, as `head` is after ten lines."""
    try:
        watched = select.poll()
        watched.register(stream.fileno(), 0)
        return any(events & select.POLLERR for _, events in watched.poll(0))
    except (OSError, ValueError):  # no file at all, as under a test
        return False


def _discard(stream: TextIO) -> None:
    # Else the interpreter tries to write it once more on its way out, and says so.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def parse_config(
    config_class: type[_Config], argv: Sequence[str], description: str | None = None, *, presets: Path | None = None
) -> _Config:
    """A config from flags and, if `--config FILE` is among them, a YAML file that they win over.

    Args:
        config_class: a frozen dataclass.
        argv: words of the command line.
        description: for the help.
        presets: folder of YAML files; `--preset NAME` puts one of them below the file and the flags.

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
    note = "--config FILE: a YAML file with any of these settings; flags win over it."
    return tyro.cli(config_class, args=words, description="\n\n".join(filter(None, [description, note])))


def _split_file_flag(word: str) -> list[str]:
    return word.split("=", 1) if word.startswith(("--config=", "--preset=")) else [word]


def _word_behind(words: Sequence[str], flag: str, what: str) -> str:
    place = words.index(flag) + 1
    if place == len(words):
        raise ConfigError(f"{flag}: expected {what} behind it")
    return words[place]


def _check_words(words: Sequence[str]) -> None:
    """Refuses credentials in any value, before an error about another one could repeat it."""
    flag = "the command line"
    for word in words:
        if word.startswith("--"):
            flag = word.partition("=")[0]
        check_no_credentials(word, flag)


def _describe_unknown(arguments: Sequence[str]) -> str:
    """The words that name no command, and the command that they are closest to."""
    names = [" ".join(each.words) for each in COMMANDS]
    asked = " ".join(arguments[:2] if any(name.startswith(f"{arguments[0]} ") for name in names) else arguments[:1])
    near = difflib.get_close_matches(asked, names, n=1)
    return repr(asked) + (f"; did you mean {near[0]!r}?" if near else "")


def main(argv: Sequence[str] | None = None) -> int:
    """The `faceattr` command. Exit codes as in `run_job`."""
    configure_logging()
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = find_command(arguments)
    if command is None:
        asked_for_help = arguments[:1] in (["--help"], ["-h"])
        lines = ["usage:", *(f"  faceattr {' '.join(each.words):14}  {each.help}" for each in COMMANDS)]
        if arguments and not asked_for_help:
            lines.append(f"error: no such command: {_describe_unknown(arguments)}")
        print("\n".join(lines), file=sys.stdout if asked_for_help else sys.stderr)
        return 0 if asked_for_help else 2

    def run() -> int:
        rest = arguments[len(command.words) :]
        _check_words(rest)
        rest = gather_flags(command.resolve(), rest)
        return tyro.cli(command.resolve(), args=rest, prog=f"faceattr {' '.join(command.words)}")()

    return _guarded(run)
