"""YAML files, presets and the settings of earlier runs as flags that precede the user's own, so that one piece of code
parses and checks all.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from faceattr.config import StorageConfig
from faceattr.config.flags import flag_kind
from faceattr.config.overrides import dump_config
from faceattr.data.runs.version import RUN_KEY, read_record
from faceattr.data.stores.addresses import normalise_address
from faceattr.data.stores.keys import split_uri
from faceattr.data.stores.open import open_store
from faceattr.data.stores.store import MissingObjectError
from faceattr.errors import ConfigError
from faceattr.yaml_files import load_yaml

_OF_ONE_RUN = ("output", "preset", "dry_run", "resume_from", "resume_at")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """One value from a file.

    Attributes:
        flag: name of the flag, without the leading dashes.
        words: command-line words with the same meaning.
        problem: why the value does not have the field's type; None if it does.
    """

    flag: str
    words: tuple[str, ...]
    problem: str | None = None


def read_settings(config_class: type, path: str, source: str) -> list[Setting]:
    """Reads the settings of a YAML file.

    Args:
        config_class: a config of values and groups.
        path: path of the file, or its address in object storage.
        source: name of the file in messages.

    Raises:
        ConfigError: the file cannot be read, has an unknown key, has a key twice, or has another structure.
    """
    try:
        text = _read_bytes(path).decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{source}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{source}: not valid YAML: {error}") from error
    # Every scalar stays text and is parsed like a flag (1e-4 is a number, `no` is a word).
    return list(_flatten(config_class, load_yaml(text, source, typed=False), source, ""))


def read_recorded(config_class: type, run: str, source: str, *, endpoint_url: str | None = None) -> list[Setting]:
    """Reads the settings with which a run began, without those that name its folder or end before the work starts.

    Args:
        config_class: the config of the run's command.
        run: its folder: a local path or an address in object storage.
        source: name of the folder in messages.
        endpoint_url: S3 endpoint, if it is not that of the environment.

    Raises:
        ConfigError: the folder holds no run, or one with an unknown setting.
    """
    record = read_record(open_store(run, StorageConfig(endpoint_url=endpoint_url)))
    if record is None:
        raise ConfigError(f"{source}: holds no run: no {RUN_KEY}; give the --output of a pipeline")
    content = _with_earlier_values(config_class, record.config)
    content = {name: value for name, value in content.items() if name not in _OF_ONE_RUN}
    # Absolute, while the config may have names that were relative to another folder.
    content["data"] = record.source.get("data", content.get("data"))
    text = dump_config(content)
    return list(_flatten(config_class, load_yaml(text, source, typed=False), source, ""))


def _with_earlier_values(config_class: type, content: Mapping[str, Any]) -> dict[str, Any]:
    """Adds the fields that the run's version did not have yet, with the values that it behaved by."""
    found = dict(content)
    hints = typing.get_type_hints(config_class)
    for each in dataclasses.fields(config_class):
        if each.name not in found and "before" in each.metadata:
            found[each.name] = each.metadata["before"]
        elif dataclasses.is_dataclass(hints[each.name]) and each.name in found:
            found[each.name] = _with_earlier_values(typing.cast(type, hints[each.name]), found[each.name])
    return found


def find_preset(presets: Path, name: str) -> str:
    """Returns the path of a preset. Raises ConfigError if there is none with this name."""
    known = sorted(path.stem for path in presets.glob("*.yaml"))
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"--preset {name!r}: expected one of {', '.join(known)}{hint}")
    return str(presets / f"{name}.yaml")


def _read_bytes(path: str) -> bytes:
    """Reads a local file, or one in object storage, whose endpoint and keys come from the environment."""
    address = normalise_address(path)
    if "://" not in address:
        return Path(address).read_bytes()
    folder, name = split_uri(address)
    try:
        return open_store(folder).get(name)
    except MissingObjectError as error:
        raise ConfigError(f"{path}: no such object") from error


def _flatten(config_class: type, content: Mapping[str, Any], source: str, prefix: str) -> Iterator[Setting]:
    hints = typing.get_type_hints(config_class)
    written: dict[str, str] = {}
    for key, value in content.items():
        name = key.replace("-", "_")
        dotted = f"{prefix}{key}"
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(hints)}"
            raise ConfigError(f"{source}: unknown key {dotted!r}; {hint}")
        if name in written:
            raise ConfigError(f"{source}: {written[name]!r} and {dotted!r} are one key, given twice; remove one")
        written[name] = dotted
        flag = f"{prefix}{name}".replace("_", "-")
        kind = hints[name]
        if dataclasses.is_dataclass(kind):
            if not isinstance(value, dict):
                raise ConfigError(f"{source}: {dotted!r} is a group; expected keys below it")
            yield from _flatten(typing.cast(type, kind), value, source, f"{flag}.")
        else:
            yield _read_setting(flag, dotted, kind, value, source)


def _read_setting(flag: str, dotted: str, hint: Any, value: Any, source: str) -> Setting:
    kind = flag_kind(hint)
    if isinstance(value, dict):
        if kind != "pairs":
            raise ConfigError(f"{source}: {dotted!r} takes one value, found keys below it")
        nested = [name for name, entry in value.items() if not isinstance(entry, str)]
        if nested:
            raise ConfigError(f"{source}: {dotted}.{nested[0]!r} takes one value; write a list as text, in quotes")
        entry_hint = typing.get_args(hint)[1]
        problems = (_find_problem(f"{dotted}.{name}", flag, entry_hint, entry) for name, entry in value.items())
        words = (f"--{flag}", *(word for pair in value.items() for word in pair))
        return Setting(flag=flag, words=words, problem=next(filter(None, problems), None))
    if isinstance(value, list):
        if kind != "several values":
            raise ConfigError(f"{source}: {dotted!r} takes one value, found a list of {len(value)}")
        nested = [entry for entry in value if not isinstance(entry, str)]
        if nested:
            raise ConfigError(f"{source}: {dotted!r}: expected a list of single values, found a list or keys in it")
        entry_hint = typing.get_args(hint)[0]
        problems = (_find_problem(dotted, flag, entry_hint, entry) for entry in value)
        return Setting(flag=flag, words=(f"--{flag}", *value), problem=next(filter(None, problems), None))
    if kind == "pairs":
        raise ConfigError(f"{source}: {dotted!r}: expected 'name: value' lines below it, found {value!r}")
    if kind == "yes or no":
        if value.lower() not in ("true", "false"):
            raise ConfigError(f"{source}: {flag!r}: expected true or false, found {value!r}")
        group, dot, last = flag.rpartition(".")
        return Setting(flag=flag, words=(f"--{flag}" if value.lower() == "true" else f"--{group}{dot}no-{last}",))
    # One word with `=`, since a value may begin with a dash; an empty value is None only if the type allows None.
    is_none = value in ("", "null", "~") and type(None) in typing.get_args(hint)
    text = "None" if is_none else value
    entry_hint = typing.get_args(hint)[0] if kind == "several values" else hint
    return Setting(flag=flag, words=(f"--{flag}={text}",), problem=_find_problem(dotted, flag, entry_hint, text))


def _find_problem(dotted: str, flag: str, hint: Any, text: str) -> str | None:
    kinds = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if any(_fits(kind, text) for kind in kinds):
        return None
    return f"{dotted!r} (--{flag}): expected {' or '.join(map(_describe, kinds))}, found {text!r}"


def _fits(kind: Any, text: str) -> bool:
    if typing.get_origin(kind) is typing.Literal:
        return text in map(str, typing.get_args(kind))
    if kind is type(None):
        return text == "None"
    if kind in (int, float):
        parse: Callable[[str], object] = kind
        try:
            parse(text)
        except ValueError:
            return False
    return True


def _describe(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        choices = [str(choice) for choice in typing.get_args(kind)]
        return f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]
    return {int: "a whole number", float: "a number", type(None): "null"}.get(kind, "text")
