"""The settings that all trials of a search share: from a file or a preset, and from `--set`."""

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from faceattr.config import StorageConfig
from faceattr.config.overrides import override
from faceattr.config.search import SearchConfig
from faceattr.config.train import TrainConfig
from faceattr.data.sources.options import near_hint
from faceattr.data.stores.addresses import resolve_address
from faceattr.data.stores.keys import split_uri
from faceattr.data.stores.open import open_store
from faceattr.data.stores.store import MissingObjectError
from faceattr.errors import ConfigError
from faceattr.training.presets import PRESETS_FOLDER
from faceattr.yaml_files import load_yaml

_Config = TypeVar("_Config")
_OWN_KEYS = ("data", "output", "preset", "dry_run", "config")


def build_base(config: SearchConfig, storage: StorageConfig) -> TrainConfig:
    """Builds the train config of the search, without what its space fixes.

    Raises:
        ConfigError: a file cannot be read, or a key or value in it is wrong; see `override`.
    """
    base = TrainConfig(data=config.data, output=config.output or "unused", storage=config.storage, ray=config.ray)
    for where, content in _layers(config, storage):
        values: dict[str, Any] = {}
        for key, value in _flatten(content, TrainConfig):
            if key.replace("-", "_") in {known.replace("-", "_") for known in values}:
                raise ConfigError(f"{where}: the key {key!r} is given twice; remove one")
            if key not in _OWN_KEYS:
                values[key] = value
        try:
            base = override(base, values)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
    if base.resume_from is not None:
        raise ConfigError(
            "resume_from: a setting of one training; the trials of a search all start from the same model"
        )
    if config.objective.main is not None and base.loss.main is None:
        base = override(base, {"loss.main": config.objective.main})
    return base


def _layers(config: SearchConfig, storage: StorageConfig) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if config.train is not None:
        where = f"--train {config.train}"
        content = load_yaml(_read_train(config.train, storage), where)
        preset = content.get("preset")
        if preset is not None:
            yield f"{where}: preset {preset}", load_yaml(_read_preset(str(preset)), str(preset))
        yield where, content
    for each in config.set:
        key, _, text = each.partition("=")
        yield f"--set {each}", load_yaml(f"{key}: {text}", f"--set {each}")


def _read_train(name: str, storage: StorageConfig) -> str:
    return read_text(name, storage, "--train") if name.endswith((".yaml", ".yml")) else _read_preset(name)


def _read_preset(name: str) -> str:
    known = {path.stem: path for path in Path(PRESETS_FOLDER).glob("*.yaml")}
    if name not in known:
        raise ConfigError(f"--train {name}: neither a .yaml file nor a preset; {near_hint(name, sorted(known))}")
    return known[name].read_text("utf-8")


def read_text(address: str, storage: StorageConfig, flag: str) -> str:
    """Reads a small text file, local or in object storage.

    Raises:
        ConfigError: the file does not exist, or is not text.
    """
    root, key = split_uri(resolve_address(address, flag))
    try:
        return open_store(root, storage).get(key).decode("utf-8")
    except (MissingObjectError, UnicodeDecodeError) as error:
        raise ConfigError(f"{flag} {address}: there is no such text file") from error


def _flatten(content: Mapping[str, Any], config_class: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields dotted keys of nested groups; a mapping that is one value, such as loss.weights, stays whole."""
    hints = typing.get_type_hints(config_class)
    for key, value in content.items():
        name = str(key).replace("-", "_")
        hint = hints.get(name)
        if is_dataclass(hint) and isinstance(value, Mapping):
            yield from _flatten(value, typing.cast(type, hint), f"{prefix}{name}.")
        else:
            yield f"{prefix}{key}", value


def config_from_json(config: _Config, values: Mapping[str, Any]) -> _Config:
    """Restores a config from the values of `dataclasses.asdict` after a round trip through JSON.

    Args:
        config: a config of the same class, with any values.
        values: field -> value; groups are mappings.
    """
    return override(config, dict(_flatten(values, type(config))))


def to_json(config: Any) -> dict[str, Any]:
    """Returns the JSON values that `config_from_json` restores."""
    return dataclasses.asdict(config)
