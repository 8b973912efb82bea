"""Reads the facts about a saved model without loading its weights: attributes, preprocessing, hash of its files.

Does not import torch, so that a driver, which only passes the model to its workers, starts fast.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceattr.attributes import AttributeSet
from faceattr.config import StorageConfig
from faceattr.data.images.face_view import FaceView
from faceattr.data.model_folders import find_hub_commit, locate_folder
from faceattr.errors import ConfigError, ModelError
from faceattr.models.backbones.preprocessing import Preprocessing
from faceattr.models.saved_config import (
    CONFIG_FILE,
    MODEL_FILES,
    UnfinishedModel,
    find_weights,
    parse_attributes,
    parse_unfinished,
    read_faces,
    read_model_json,
    read_whole_model,
)


@dataclass(frozen=True, kw_only=True)
class SavedModelInfo:
    """A saved model without its weights.

    Attributes:
        folder: local folder that contains its files.
        revision: commit hash if the model came from the Hugging Face hub, else None.
        weights_id: SHA-256 of the weights and the config, so thresholds and calibration are included.
        attributes: attributes with kinds and class order.
        preprocessing: image preprocessing of the backbone.
        thresholds: binary attribute -> threshold of its score.
        calibration: attribute -> fitted calibration settings.
        backbone: name of its backbone.
        faces: which part of an image it was trained on; None for all of it.
        unfinished: what a training says of its best model so far; None for a finished model.
    """

    folder: Path
    revision: str | None
    weights_id: str
    attributes: AttributeSet
    preprocessing: Preprocessing
    thresholds: Mapping[str, float]
    calibration: Mapping[str, Mapping[str, Any]]
    backbone: str
    faces: FaceView | None = None
    unfinished: UnfinishedModel | None = None


def inspect_saved_model(
    model: str | Path, *, revision: str | None = None, storage: StorageConfig | None = None
) -> SavedModelInfo:
    """Locates and checks a model as `MultiAttributeModel.from_pretrained` does, without loading its weights.

    Raises:
        ConfigError, ModelError: the model cannot be found, or was not saved by faceattr.
    """
    return read_whole_model(
        lambda: locate_folder(model, patterns=MODEL_FILES, revision=revision, storage=storage), _describe_folder
    )


def _describe_folder(folder: Path) -> SavedModelInfo:
    content = read_model_json(folder)
    weights = find_weights(folder)
    path = folder / CONFIG_FILE
    try:
        return SavedModelInfo(
            folder=folder,
            revision=find_hub_commit(folder),
            weights_id=hash_files(path, weights),
            attributes=parse_attributes(content),
            preprocessing=Preprocessing.from_dict(content["preprocessing"]),
            thresholds=dict(content["thresholds"]),
            calibration=dict(content["calibration"]),
            backbone=str(content["backbone"]["name"]),
            faces=read_faces(content),
            unfinished=parse_unfinished(content),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ModelError(f"{path}: damaged: {type(error).__name__} {error}") from error
    except ConfigError as error:
        raise ModelError(f"{path}: {error}") from error


def hash_files(*paths: Path) -> str:
    """Returns the SHA-256 of the names and contents of files, in hexadecimal."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            total.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()
