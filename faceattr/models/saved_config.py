"""Reads and checks the `config.json` of a saved model. Does not import torch, which would take longer than the rest.

Its layout is in `faceattr.models.saved`.

A training publishes its best model so far: it replaces the weights' file, then the config. Both files of such a model
have the same random `weights_id`, and neither file of a finished model has one, so that whoever reads between the two
writes notices it (`read_whole_model`).
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open

from faceattr.attributes import Attribute, AttributeSet, DerivedAttribute
from faceattr.data.images.face_view import FaceView
from faceattr.errors import ModelError
from faceattr.version import __version__

MODEL_SCHEMA_VERSION = 1
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
MODEL_FILES = (CONFIG_FILE, WEIGHTS_FILE)
MODEL_TYPE = "faceattr"
WEIGHTS_ID = "weights_id"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
# Seconds to wait for the second file of a model that is being replaced: the small config follows the weights at once.
_WAITS_S = (0.1, 0.5, 2.0, 5.0)

logger = logging.getLogger(__name__)
_Read = TypeVar("_Read")


@dataclass(frozen=True, kw_only=True)
class UnfinishedModel:
    """What the files of a model say that a training published before its end: it is the best one so far.

    Attributes:
        weights_id: random id of these weights, also in the metadata of the weights' file.
        epoch: epoch of the weights, counted from 1.
        num_epochs: number of epochs that the training is to have.
    """

    weights_id: str
    epoch: int
    num_epochs: int

    def __str__(self) -> str:
        return (
            f"unfinished: the best of its training so far, of epoch {self.epoch} of {self.num_epochs}; the training "
            "still runs, or stopped before its end"
        )


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


def parse_unfinished(content: Mapping[str, Any]) -> UnfinishedModel | None:
    """Returns what a model's config says of a training that has not finished; None for a finished model.

    Raises:
        KeyError, TypeError: the config is damaged.
    """
    found = content.get("unfinished")
    return None if found is None else UnfinishedModel(**found)


def read_whole_model(locate: Callable[[], Path], read: Callable[[Path], _Read]) -> _Read:
    """Returns what `read` makes of a model's folder, never of the config of one model and the weights of another.

    A model that a training replaces meanwhile is located and read again. Tells in one line if the model is unfinished.

    Args:
        locate: returns the local folder of the model, downloaded if necessary.
        read: reads the folder; it may be called several times.

    Raises:
        ConfigError, ModelError: the model cannot be located or read, or its files do not belong together.
    """
    for wait_s in (*_WAITS_S, None):
        folder = locate()
        content = read_model_json(folder)
        found = read(folder)
        # The weights are written first: if the id of the config is still that of the weights after all has been read,
        # nothing was replaced in between.
        said, has = (content.get("unfinished") or {}).get(WEIGHTS_ID), _read_weights_id(folder / WEIGHTS_FILE)
        if said == has:
            if said is not None:
                logger.warning("model %s is %s", folder, parse_unfinished(content))
            return found
        if wait_s is not None:
            time.sleep(wait_s)
    raise ModelError(
        f"{folder}: {CONFIG_FILE} and {WEIGHTS_FILE} belong to different models ({said or 'a finished one'} and "
        f"{has or 'a finished one'}): a training stopped between writing the two. Run the training's command again"
    )


def _read_weights_id(path: Path) -> str | None:
    try:
        with safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get(WEIGHTS_ID)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not readable as safetensors: {error}; copy the file again") from error
