"""Flags and YAML to a config, errors to exit codes; and the `faceattr` command.

tyro makes the flags from the config dataclasses. A YAML file given by `--config` is turned into flags that stand in
front of the user's own, so that both are parsed and checked by one piece of code and flags win.
"""

import dataclasses
import difflib
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro
import yaml

from faceattr.config import StorageConfig
from faceattr.data.exports import describe_export, export_labels, write_conflicts
from faceattr.data.storage import StorageOptions, open_store
from faceattr.errors import ConfigError, FaceattrError
from faceattr.logs import configure_logging

_Config = TypeVar("_Config")


def run_job(
    config_class: type[_Config], job: Callable[[_Config], int], argv: Sequence[str] | None, description: str | None
) -> int:
    """The body of a script's `main`: parses, runs, maps errors to exit codes (0 done, 1 failed run, 2 bad config)."""
    configure_logging()
    return _guarded(lambda: job(parse_config(config_class, sys.argv[1:] if argv is None else argv, description)))


def _guarded(action: Callable[[], int]) -> int:
    try:
        return action()
    except FaceattrError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped by the user; what is committed stays, run the same command again to go on", file=sys.stderr)
        return 130


def parse_config(config_class: type[_Config], argv: Sequence[str], description: str | None = None) -> _Config:
    """A config from flags and, if `--config FILE` is among them, a YAML file that they win over.

    Raises:
        ConfigError: a key of the file is unknown, or a value is out of range.
        SystemExit: a flag is wrong (code 2) or help was asked for (code 0).
    """
    rest = [part for each in argv for part in (each.split("=", 1) if each.startswith("--config=") else [each])]
    flags: list[str] = []
    if "--config" in rest:
        place = rest.index("--config")
        if place + 1 == len(rest):
            raise ConfigError("--config: expected the path of a YAML file behind it")
        path = rest[place + 1]
        del rest[place : place + 2]
        given = {_flag_name(each) for each in rest if each.startswith("--")}
        flags = [part for name, parts in _yaml_flags(config_class, path) if name not in given for part in parts]
    return tyro.cli(config_class, args=[*flags, *rest], description=description)


def _flag_name(argument: str) -> str:
    name = argument.removeprefix("--").partition("=")[0].replace("_", "-")
    group, dot, last = name.rpartition(".")
    return group + dot + last.removeprefix("no-")


def _yaml_flags(config_class: type, path: str) -> list[tuple[str, list[str]]]:
    """(flag name, command-line words) of every value in a YAML file."""
    try:
        # BaseLoader: every scalar stays text and is parsed as a flag would be (1e-4 is a number, `no` a word).
        content = yaml.load(Path(path).read_text("utf-8"), Loader=yaml.BaseLoader)  # noqa: S506 - builds only str, list, dict
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path}: not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"--config {path}: expected 'key: value' lines")
    return list(_flatten(config_class, content, path, ""))


def _flatten(config_class: type, content: dict[str, Any], path: str, prefix: str) -> Any:
    hints = typing.get_type_hints(config_class)
    for key, value in content.items():
        name = key.replace("-", "_")
        dotted = f"{prefix}{key}"
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(hints)}"
            raise ConfigError(f"--config {path}: unknown key {dotted!r}; {hint}")
        flag = f"{prefix}{name}".replace("_", "-")
        kind = hints[name]
        if dataclasses.is_dataclass(kind):
            if not isinstance(value, dict):
                raise ConfigError(f"--config {path}: {dotted!r} is a group; expected keys below it")
            yield from _flatten(typing.cast(type, kind), value, path, f"{flag}.")
        elif isinstance(value, dict):
            raise ConfigError(f"--config {path}: {dotted!r} takes one value, found keys below it")
        elif kind is bool:
            yield flag, [_bool_flag(flag, value, path)]
        elif isinstance(value, list):
            yield flag, [f"--{flag}", *value]
        else:
            # One word with `=`, since a value may begin with a dash; an empty value is None only where None may stand.
            is_none = value in ("", "null", "~") and type(None) in typing.get_args(kind)
            yield flag, [f"--{flag}={None if is_none else value}"]


def _bool_flag(flag: str, value: str, path: str) -> str:
    if value.lower() not in ("true", "false"):
        raise ConfigError(f"--config {path}: {flag!r}: expected true or false, found {value!r}")
    group, dot, last = flag.rpartition(".")
    return f"--{flag}" if value.lower() == "true" else f"--{group}{dot}no-{last}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportLabelsConfig:
    """Writes a published label run as CSV or JSON: image_path, the attributes, the derived attributes."""

    run: tyro.conf.Positional[str]
    """Run folder: a local path or s3://bucket/prefix."""
    format: typing.Literal["csv", "json"] = "csv"
    """Format of the file."""
    output: Path | None = None
    """File to write. Default: labels.csv or labels.json here."""
    storage: StorageConfig = dataclasses.field(default_factory=StorageConfig)

    def __call__(self) -> int:
        """Exports, and compares label columns that the run's manifest had with ours."""
        path = self.output or Path(f"labels.{self.format}")
        options = StorageOptions(endpoint_url=self.storage.endpoint_url, deadline_s=self.storage.deadline_s)
        summary = export_labels(open_store(self.run, options), path, export_format=self.format)
        conflicts_path = path.with_name(f"{path.stem}.conflicts.csv") if summary.num_compared else None
        if conflicts_path:
            write_conflicts(conflicts_path, summary)
        print(describe_export(summary, path, conflicts_path))
        return 0


# What the `faceattr` command can do; jobs that need a cluster are the scripts in pipelines/ and tune/.
_COMMANDS: dict[tuple[str, str], type[ExportLabelsConfig]] = {("export", "labels"): ExportLabelsConfig}


def main(argv: Sequence[str] | None = None) -> int:
    """The `faceattr` command. Exit codes as in `run_job`."""
    configure_logging()
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = _COMMANDS.get(tuple(arguments[:2]))  # type: ignore[arg-type]
    if command is None:
        asked_for_help = arguments[:1] in (["--help"], ["-h"])
        lines = [f"  faceattr {' '.join(words)}  {_first_line(each)}" for words, each in _COMMANDS.items()]
        print("\n".join(["usage:", *lines]), file=sys.stdout if asked_for_help else sys.stderr)
        return 0 if asked_for_help else 2
    config = tyro.cli(command, args=arguments[2:], prog=f"faceattr {' '.join(arguments[:2])}")
    return _guarded(config)


def _first_line(config_class: type) -> str:
    return (config_class.__doc__ or "").splitlines()[0]
