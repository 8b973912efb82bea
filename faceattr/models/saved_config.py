"""Reads and checks the `config.json` of a saved model. Does not import torch, which would take longer than the rest.

Its layout is in `faceattr.models.saved`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from faceattr.attributes import Attribute, AttributeSet, DerivedAttribute
from faceattr.data.images.face_view import FaceView
from faceattr.errors import ModelError
from faceattr.version import __version__

MODEL_SCHEMA_VERSION = 1
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
MODEL_FILES = (CONFIG_FILE, WEIGHTS_FILE)
MODEL_TYPE = "faceattr"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


def read_model_json(folder: Path) -> dict[str, Any]:
    """Reads the content of `config.json`.

    Raises:
        ModelError: the folder contains no model of faceattr, or it has a newer schema version or is damaged.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        found = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
        legacy = f"; {found[0]} of another project: see faceattr.models.legacy" if found else ""
        raise ModelError(f"{folder}: expected a model saved by faceattr, found no {CONFIG_FILE} in it{legacy}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(content, dict) or content.get("model_type") != MODEL_TYPE:
        kind = content.get("model_type") if isinstance(content, dict) else type(content).__name__
        raise ModelError(
            f"{path}: expected a model saved by faceattr (model_type {MODEL_TYPE!r}), found {kind!r}; a CLIP model is "
            "a backbone (`hf:` and its name), the UTKFace ViT and FairFace CLIP load by faceattr.models.legacy"
        )
    if content.get("schema_version") != MODEL_SCHEMA_VERSION:
        raise ModelError(
            f"{path}: schema_version is {content.get('schema_version')!r}, this faceattr {__version__} reads "
            f"{MODEL_SCHEMA_VERSION}; it was written by {content.get('library_versions')}"
        )
    return content


def find_weights(folder: Path) -> Path:
    """Returns the path of `model.safetensors`.

    Raises:
        ModelError: the file is missing; a pickle in its place is named in the message and not loaded.
    """
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        found = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
        pickled = f"; {', '.join(found)} is a pickle, which can run code and is not loaded" if found else ""
        raise ModelError(f"{folder}: found no {WEIGHTS_FILE}{pickled}; save the model again with save_pretrained")
    return path


def read_faces(content: Mapping[str, Any]) -> FaceView | None:
    """Returns which part of an image a model was trained on; None for all of it."""
    return FaceView.from_dict(content["faces"]) if content.get("faces") is not None else None


def parse_attributes(content: Mapping[str, Any]) -> AttributeSet:
    """Returns the attributes of a model's config, classes in index order.

    Raises:
        KeyError, TypeError: the config is damaged.
    """
    return AttributeSet(
        attributes=tuple(
            Attribute(name=item["name"], kind=item["kind"], classes=tuple(item["classes"]))
            for item in content["attributes"]
        ),
        derived=tuple(DerivedAttribute(**item) for item in content["derived"]),
    )
