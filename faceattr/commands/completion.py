"""`faceattr completion`: a script by which a shell completes commands, flags and the values of flags."""

import dataclasses
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Literal, get_type_hints

import tyro

from faceattr.commands.table import COMMANDS, Command
from faceattr.config.flags import list_flag_words, list_flags
from faceattr.logs import LOG_FORMATS

_POSITIONAL = tyro.conf.Positional[str].__metadata__  # type: ignore[attr-defined]
_PROGRAM = "faceattr"


@dataclass(frozen=True, kw_only=True)
class Completion:
    """Prints a script for a shell, of the commands and flags of this version.

    For bash, in every new shell: `faceattr completion bash > ~/.local/share/bash-completion/completions/faceattr`, or
    once: `source <(faceattr completion bash)`.
    """

    shell: tyro.conf.Positional[Literal["bash"]]
    """The shell; zsh reads the script of bash after `autoload -U +X bashcompinit && bashcompinit`."""

    def __call__(self) -> int:
        """Prints the script."""
        print(write_bash_script(COMMANDS), end="")
        return 0


def write_bash_script(commands: tuple[Command, ...]) -> str:
    """Returns a script for bash 4.3 or later.

    Args:
        commands: the commands that it completes.
    """
    words: dict[str, list[str]] = {}
    flags: dict[str, list[str]] = {}
    values: dict[str, list[str]] = {}
    for command in commands:
        for place, word in enumerate(command.words):
            found = words.setdefault(" ".join((_PROGRAM, *command.words[:place])), [])
            found += [] if word in found else [word]
        name = " ".join((_PROGRAM, *command.words))
        flags[name] = sorted(_flags_of(command))
        values |= {f"{name} --{flag}": list(choices) for flag, choices in _choices_of(command)}
    template = resources.files("faceattr.commands").joinpath("completion.bash").read_text("utf-8")
    tables = {"words": words, "flags": flags, "values": values}
    return template + "".join(_table(name, content) for name, content in tables.items())


def _flags_of(command: Command) -> Iterator[str]:
    config = command.resolve()
    positional = set(_positional(config))
    for flag, field, kind in list_flags(config):
        if field in positional:
            continue
        yield f"--{flag}"
        if kind == "yes or no":
            group, dot, last = flag.rpartition(".")
            yield f"--{group}{dot}no-{last}"
    yield from ("--help", "--log-format", *(["--config"] if command.job else []))


def _choices_of(command: Command) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield from list_flag_words(command.resolve())
    yield "log-format", LOG_FORMATS
    presets = command.resolve_presets()
    if presets is not None:
        yield "preset", tuple(sorted(path.stem for path in presets.glob("*.yaml")))


def _positional(config: type) -> Iterator[str]:
    for name, hint in get_type_hints(config, include_extras=True).items():
        if not dataclasses.is_dataclass(hint) and getattr(hint, "__metadata__", ()) == _POSITIONAL:
            yield name.replace("_", "-")


def _table(name: str, content: Mapping[str, list[str]]) -> str:
    lines = [f"  [{shlex.quote(key)}]={shlex.quote(' '.join(found))}" for key, found in sorted(content.items())]
    return "\n".join([f"declare -gA _faceattr_{name}=(", *lines, ")", ""])
