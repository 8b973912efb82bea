"""The files of a saved model: `model.safetensors` and `config.json`.

{"model_type": "faceattr", "schema_version": 1,
 "library_versions": {"faceattr": ..., "torch": ..., "timm": ..., "transformers": ...},
 "backbone": {"name", "image_size", "args", "hf_config"},
 "preprocessing": {"size_px", "mean", "std", "interpolation", "crop_mode", "crop_fraction"},
 "attributes": [{"name", "kind", "classes"}],      classes in index order
 "derived": [{"name", "rule"}],
 "heads": {attribute: {"hidden", "activation", "dropout", "age_output"}},
 "thresholds": {attribute: score}, "calibration": {attribute: {...}},
 "faces": {"mode", "margin", "missing"}}           what the training images showed; absent for whole images
 "unfinished": {"weights_id", "epoch", "num_epochs"}}      only in the best model so far of a training that goes on
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.images.face_view import FaceView
from faceattr.errors import ConfigError, ModelError
from faceattr.models.backbones.blocks import BackboneConfig
from faceattr.models.backbones.preprocessing import Preprocessing
from faceattr.models.heads import HeadConfig
from faceattr.models.saved_config import (
    CONFIG_FILE,
    MODEL_FILES,
    MODEL_SCHEMA_VERSION,
    MODEL_TYPE,
    WEIGHTS_FILE,
    WEIGHTS_ID,
    UnfinishedModel,
    parse_attributes,
    parse_unfinished,
    read_faces,
    read_model_json,
)
from faceattr.version import __version__

_LIBRARIES = ("torch", "torchvision", "timm", "transformers")


@dataclass(frozen=True, kw_only=True)
class SavedModelConfig:
    """Everything in a saved model but its weights.

    Attributes:
        backbone: how to build the backbone.
        preprocessing: image preprocessing of the backbone.
        attributes: attributes with kinds and class order.
        heads: attribute name -> head shape.
        thresholds: binary or derived attribute -> threshold of its score, in [0, 1].
        calibration: attribute -> JSON settings fitted by `faceattr.evaluation`.
        library_versions: library name -> version that wrote the model.
        faces: which part of an image the model was trained on; None for all of it.
        unfinished: what a training says of its best model so far; None for a finished model.
    """

    backbone: BackboneConfig
    preprocessing: Preprocessing
    attributes: AttributeSet
    heads: Mapping[str, HeadConfig]
    thresholds: Mapping[str, float] = field(default_factory=dict)
    calibration: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    library_versions: Mapping[str, str] = field(default_factory=dict)
    faces: FaceView | None = None
    unfinished: UnfinishedModel | None = None

    def __post_init__(self) -> None:
        check_heads(self.attributes, self.heads)
        cut = {attribute.name for attribute in self.attributes.attributes if attribute.has_threshold}
        cut |= {rule.name for rule in self.attributes.derived}
        for name, threshold in self.thresholds.items():
            if name not in cut:
                raise ConfigError(f"thresholds: {name!r} is none of the model's binary attributes {sorted(cut)}")
            if not (math.isfinite(threshold) and 0 <= threshold <= 1):
                raise ConfigError(f"thresholds: {name!r} is {threshold}; expected a score from 0 to 1")
        if unknown := sorted(set(self.calibration) - set(self.attributes.names)):
            raise ConfigError(f"calibration: {unknown} are none of the model's attributes {self.attributes.names}")


def check_heads(attributes: AttributeSet, heads: Mapping[str, HeadConfig]) -> None:
    """Raises ConfigError unless every attribute has a head and every head an attribute."""
    if set(heads) != set(attributes.names):
        raise ConfigError(f"heads: expected one for each of {list(attributes.names)}, found {sorted(heads)}")


def write_model(folder: Path, config: SavedModelConfig, tensors: Mapping[str, Tensor]) -> None:
    """Writes both files, `config.json` last, so that a folder that contains it is complete.

    Raises:
        ConfigError: the folder already contains a model, or the calibration is not valid JSON.
    """
    if any((folder / name).exists() for name in MODEL_FILES):
        raise ConfigError(f"{folder}: holds a model already, and nothing is overwritten; choose another folder")
    content = {
        "model_type": MODEL_TYPE,
        "schema_version": MODEL_SCHEMA_VERSION,
        "library_versions": {"faceattr": __version__, **{name: version(name) for name in _LIBRARIES}},
        "backbone": asdict(config.backbone),
        "preprocessing": config.preprocessing.to_dict(),
        "attributes": [asdict(attribute) for attribute in config.attributes.attributes],
        "derived": [asdict(rule) for rule in config.attributes.derived],
        "heads": {name: config.heads[name].to_dict() for name in config.attributes.names},
        "thresholds": dict(config.thresholds),
        "calibration": {name: dict(values) for name, values in config.calibration.items()},
    }
    if config.faces is not None:
        content["faces"] = config.faces.to_dict()
    metadata = {"format": "pt"}
    if config.unfinished is not None:
        content["unfinished"] = asdict(config.unfinished)
        metadata[WEIGHTS_ID] = config.unfinished.weights_id
    try:
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{folder}: the model's config has a value that JSON cannot hold: {error}") from error
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{WEIGHTS_FILE}.partial"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, metadata=metadata)
    os.replace(partial, folder / WEIGHTS_FILE)
    partial = folder / f".{CONFIG_FILE}.partial"
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, folder / CONFIG_FILE)


def read_config(folder: Path) -> SavedModelConfig:
    """Reads `config.json` without the weights.

    Raises:
        ModelError: the folder contains no model of faceattr, or it has a newer schema version or is damaged.
    """
    path = folder / CONFIG_FILE
    content = read_model_json(folder)
    try:
        return _parse(content)
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: damaged: {type(error).__name__} {error}") from error
    except (ConfigError, ModelError) as error:
        raise ModelError(f"{path}: {error}") from error


def check_attributes(found: AttributeSet, expected: AttributeSet, where: str) -> None:
    """Raises ModelError unless every expected attribute is present with the same kind and classes."""
    for attribute in expected.attributes:
        if attribute.name not in found.names:
            raise ModelError(f"{where}: has no attribute {attribute.name!r}, only {', '.join(found.names)}")
        theirs = found[attribute.name]
        if theirs.kind != attribute.kind:
            raise ModelError(f"{where}: attribute {attribute.name!r} is {theirs.kind}, expected {attribute.kind}")
        if theirs.classes != attribute.classes:
            index = next(
                (
                    i
                    for i, pair in enumerate(zip(theirs.classes, attribute.classes, strict=False))
                    if pair[0] != pair[1]
                ),
                min(len(theirs.classes), len(attribute.classes)),
            )
            raise ModelError(
                f"{where}: attribute {attribute.name!r} has {len(theirs.classes)} classes, expected "
                f"{len(attribute.classes)}; the first difference is at index {index}: "
                f"{_class_at(theirs, index)} instead of {_class_at(attribute, index)}. Class order decides what an "
                "output means: give the data the model's class list, or train a new head"
            )


def _class_at(attribute: Attribute, index: int) -> str:
    return repr(attribute.classes[index]) if index < len(attribute.classes) else "nothing"


def _parse(content: Mapping[str, Any]) -> SavedModelConfig:
    return SavedModelConfig(
        backbone=BackboneConfig(**content["backbone"]),
        preprocessing=Preprocessing.from_dict(content["preprocessing"]),
        attributes=parse_attributes(content),
        heads={name: HeadConfig.from_dict(values) for name, values in content["heads"].items()},
        thresholds=content["thresholds"],
        calibration=content["calibration"],
        library_versions=content["library_versions"],
        faces=read_faces(content),
        unfinished=parse_unfinished(content),
    )
