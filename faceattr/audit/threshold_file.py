"""thresholds.yaml: how scores become labels, by attribute. `faceattr audit apply` writes it, other commands read it.

thresholds:
  hat: 0.31                     # yes from this score on
  glasses:
    threshold: 0.44
    abstain: [0.4, 0.5]         # scores between are labelled null
  hair_color:
    abstain: 0.6                # of several classes: below this probability no class is labelled
"""

from collections.abc import Mapping
from typing import Any

import yaml

from faceattr.attributes import DEFAULT_THRESHOLD, Attribute
from faceattr.config import StorageConfig
from faceattr.data.runs.run_attributes import Decision
from faceattr.data.stores.open import open_store
from faceattr.data.stores.store import MissingObjectError
from faceattr.errors import ConfigError
from faceattr.yaml_files import load_yaml


def encode_thresholds(decisions: Mapping[str, Decision], attributes: Mapping[str, Attribute], comment: str) -> bytes:
    """Returns the bytes of a thresholds.yaml.

    Args:
        decisions: attribute -> decision.
        attributes: the attributes by name.
        comment: a first line that says where the decisions come from.
    """
    found: dict[str, Any] = {}
    for name, each in decisions.items():
        if not attributes[name].has_threshold:
            found[name] = {"abstain": each.abstain[0] if each.abstain else 0.0}
        elif each.abstain is None:
            found[name] = each.threshold
        else:
            found[name] = {"threshold": each.threshold, "abstain": list(each.abstain)}
    text = yaml.safe_dump({"thresholds": found}, sort_keys=False, default_flow_style=None)
    return f"# {' '.join(comment.split())}\n{text}".encode()


def read_thresholds(address: str, storage: StorageConfig, attributes: Mapping[str, Attribute]) -> dict[str, Decision]:
    """Reads a thresholds.yaml from any store; see `decode_thresholds`.

    Raises:
        ConfigError: there is no such file, or it does not fit the attributes.
    """
    folder, _, name = address.rpartition("/")
    try:
        data = open_store(folder or ".", storage).get(name)
    except MissingObjectError:
        raise ConfigError(f"--thresholds {address}: there is no such file") from None
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"--thresholds {address}: expected a text in UTF-8") from error
    return decode_thresholds(text, address, {name: each for name, each in attributes.items() if each.has_class_scores})


def decode_thresholds(text: str, where: str, attributes: Mapping[str, Attribute]) -> dict[str, Decision]:
    """Reads a thresholds.yaml.

    Args:
        text: content of the file.
        where: name of the file in errors.
        attributes: the attributes that have scores, by name.

    Raises:
        ConfigError: it is no such file, names another attribute, or has a value out of range.
    """
    content = load_yaml(text, where)
    if set(content) != {"thresholds"} or not isinstance(content["thresholds"], dict) or not content["thresholds"]:
        raise ConfigError(f"{where}: expected one key `thresholds` with a line per attribute; found {sorted(content)}")
    unknown = [str(name) for name in content["thresholds"] if name not in attributes]
    if unknown:
        raise ConfigError(f"{where}: {', '.join(unknown)}: no such attribute here; there are {', '.join(attributes)}")
    return {name: _decode(value, f"{where}: {name}", attributes[name]) for name, value in content["thresholds"].items()}


def _decode(value: Any, where: str, attribute: Attribute) -> Decision:
    fields = value if isinstance(value, dict) else {"threshold": value}
    known = {"threshold", "abstain"} if attribute.has_threshold else {"abstain"}
    if not set(fields) <= known or not fields:
        raise ConfigError(f"{where}: expected {' and '.join(sorted(known))}; found {value!r}")
    if not attribute.has_threshold:
        least = _probability(fields["abstain"], where)
        return Decision(abstain=(least, 1.0) if least > 0 else None)
    threshold = _probability(fields.get("threshold", DEFAULT_THRESHOLD), where)
    band = fields.get("abstain")
    if band is None:
        return Decision(threshold=threshold)
    if not isinstance(band, list) or len(band) != 2:
        raise ConfigError(f"{where}: abstain: expected two scores, [low, high]; found {band!r}")
    low, high = (_probability(each, where) for each in band)
    if not low <= threshold <= high:
        raise ConfigError(f"{where}: abstain: expected [low, high] around the threshold {threshold}; found {band!r}")
    return Decision(threshold=threshold, abstain=(low, high))


def _probability(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigError(f"{where}: expected a score between 0 and 1, found {value!r}")
    return float(value)
