"""What can be said of a saved model without loading it: its attributes, how it wants images, the hash of its files.

Without torch, so that a driver, which only sends the model on to its workers, starts at once.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceattr.attributes import AttributeSet
from faceattr.config import StorageConfig
from faceattr.data.model_folders import find_hub_commit, locate_folder
from faceattr.errors import ConfigError, ModelError
from faceattr.models.backbones.preprocessing import Preprocessing
from faceattr.models.saved_config import CONFIG_FILE, MODEL_FILES, find_weights, parse_attributes, read_model_json


@dataclass(frozen=True, kw_only=True)
class SavedModelInfo:
    """A saved model, but for its weights.

    Attributes:
        folder: where its files lie on this machine.
        revision: commit hash if it came from the Hugging Face hub, else None.
        weights_id: SHA-256 over the weights and the config: thresholds and calibration count.
        attributes: with kinds and class order.
        preprocessing: how it wants its images.
        thresholds: binary attribute -> cut on its score.
        calibration: attribute -> settings of what was fitted.
        backbone: name of its backbone.
    """

    folder: Path
    revision: str | None
    weights_id: str
    attributes: AttributeSet
    preprocessing: Preprocessing
    thresholds: Mapping[str, float]
    calibration: Mapping[str, Mapping[str, Any]]
    backbone: str


def inspect_saved_model(
    model: str | Path, *, revision: str | None = None, storage: StorageConfig | None = None
) -> SavedModelInfo:
    """Finds and checks a model as `MultiAttributeModel.from_pretrained` does, and leaves its weights on disk.

    Raises:
        ConfigError, ModelError: it cannot be found, or is not a model of ours.
    """
    folder = locate_folder(model, patterns=MODEL_FILES, revision=revision, storage=storage)
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
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ModelError(f"{path}: damaged: {type(error).__name__} {error}") from error
    except ConfigError as error:
        raise ModelError(f"{path}: {error}") from error


def hash_files(*paths: Path) -> str:
    """SHA-256 over names and contents, hex."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            total.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()
