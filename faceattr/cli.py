"""Flags and YAML to a config, errors to exit codes; and the `faceattr` command.

tyro makes the flags from the config dataclasses. A YAML file given by `--config` is turned into flags that stand in
front of the user's own, so that both are parsed and checked by one piece of code and flags win.
"""

import dataclasses
import difflib
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro
import yaml

from faceattr.commands.table import COMMANDS, find_command
from faceattr.data.addresses import check_no_credentials
from faceattr.data.storage import open_store
from faceattr.data.store_types import MissingObjectError
from faceattr.errors import ConfigError, FaceattrError
from faceattr.logs import configure_logging

_Config = TypeVar("_Config")


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
    try:
        return action()
    except FaceattrError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped by the user; what is committed stays, run the same command again to go on", file=sys.stderr)
        return 130


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
    rest = [part for each in argv for part in _split_file_flag(each)]
    _check_words(rest)
    layers: list[_Layer] = []
    if "--config" in rest:
        path = _word_behind(rest, "--config", "the path of a YAML file")
        place = rest.index("--config")
        del rest[place : place + 2]
        layers.append(_yaml_flags(config_class, path, f"--config {path}"))
    if presets is not None:
        named = [parts[0].partition("=")[2] for name, parts in (layers[0] if layers else []) if name == "preset"]
        if "--preset" in rest:
            named = [_word_behind(rest, "--preset", "a name")]
        if named and named[0] != "None":
            layers.append(_yaml_flags(config_class, _find_preset(presets, named[0]), f"--preset {named[0]}"))
    words = list(rest)
    given = {_flag_name(each) for each in rest if each.startswith("--")}
    for layer in layers:
        _check_words([part for _, parts in layer for part in parts])
        words = [part for name, parts in layer if name not in given for part in parts] + words
        given |= {name for name, _ in layer}
    note = "--config FILE: a YAML file with any of these settings; flags win over it."
    return tyro.cli(config_class, args=words, description="\n\n".join(filter(None, [description, note])))


# (flag name, command-line words) of every value that a YAML file gives.
_Layer = list[tuple[str, list[str]]]


def _split_file_flag(word: str) -> list[str]:
    return word.split("=", 1) if word.startswith(("--config=", "--preset=")) else [word]


def _word_behind(words: Sequence[str], flag: str, what: str) -> str:
    place = words.index(flag) + 1
    if place == len(words):
        raise ConfigError(f"{flag}: expected {what} behind it")
    return words[place]


def _find_preset(presets: Path, name: str) -> str:
    known = sorted(path.stem for path in presets.glob("*.yaml"))
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"--preset {name!r}: expected one of {', '.join(known)}{hint}")
    return str(presets / f"{name}.yaml")


def _check_words(words: Sequence[str]) -> None:
    """Refuses credentials in any value, before an error about another one could repeat it."""
    flag = "the command line"
    for word in words:
        if word.startswith("--"):
            flag = word.partition("=")[0]
        check_no_credentials(word, flag)


def _flag_name(argument: str) -> str:
    name = argument.removeprefix("--").partition("=")[0].replace("_", "-")
    group, dot, last = name.rpartition(".")
    return group + dot + last.removeprefix("no-")


def _yaml_flags(config_class: type, path: str, source: str) -> _Layer:
    """What a YAML file gives; `source` names it in messages."""
    try:
        # BaseLoader: every scalar stays text and is parsed as a flag would be (1e-4 is a number, `no` a word).
        content = yaml.load(_read_bytes(path).decode("utf-8"), Loader=yaml.BaseLoader)  # noqa: S506 - builds only str, list, dict
    except OSError as error:
        raise ConfigError(f"{source}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source}: not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{source}: expected 'key: value' lines")
    return list(_flatten(config_class, content, source, ""))


def _read_bytes(path: str) -> bytes:
    """A local file, or one in object storage, whose endpoint and keys the environment names."""
    if "://" not in path:
        return Path(path).read_bytes()
    folder, _, name = path.rpartition("/")
    try:
        return open_store(folder).get(name)
    except MissingObjectError as error:
        raise ConfigError(f"{path}: no such object") from error


def _flatten(config_class: type, content: dict[str, Any], source: str, prefix: str) -> Any:
    hints = typing.get_type_hints(config_class)
    for key, value in content.items():
        name = key.replace("-", "_")
        dotted = f"{prefix}{key}"
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(hints)}"
            raise ConfigError(f"{source}: unknown key {dotted!r}; {hint}")
        flag = f"{prefix}{name}".replace("_", "-")
        kind = hints[name]
        if dataclasses.is_dataclass(kind):
            if not isinstance(value, dict):
                raise ConfigError(f"{source}: {dotted!r} is a group; expected keys below it")
            yield from _flatten(typing.cast(type, kind), value, source, f"{flag}.")
        elif isinstance(value, dict) and typing.get_origin(kind) is Mapping:
            nested = [name for name, each in value.items() if not isinstance(each, str)]
            if nested:
                raise ConfigError(f"{source}: {dotted}.{nested[0]!r} takes one value; write a list as text, in quotes")
            yield flag, [f"--{flag}", *(word for pair in value.items() for word in pair)]
        elif isinstance(value, dict):
            raise ConfigError(f"{source}: {dotted!r} takes one value, found keys below it")
        elif kind is bool:
            yield flag, [_bool_flag(flag, value, source)]
        elif isinstance(value, list):
            yield flag, [f"--{flag}", *value]
        else:
            # One word with `=`, since a value may begin with a dash; an empty value is None only where None may stand.
            is_none = value in ("", "null", "~") and type(None) in typing.get_args(kind)
            yield flag, [f"--{flag}={None if is_none else value}"]


def _bool_flag(flag: str, value: str, source: str) -> str:
    if value.lower() not in ("true", "false"):
        raise ConfigError(f"{source}: {flag!r}: expected true or false, found {value!r}")
    group, dot, last = flag.rpartition(".")
    return f"--{flag}" if value.lower() == "true" else f"--{group}{dot}no-{last}"


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
        return tyro.cli(command.resolve(), args=rest, prog=f"faceattr {' '.join(command.words)}")()

    return _guarded(run)
