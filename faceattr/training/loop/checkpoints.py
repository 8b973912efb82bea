"""A training as a folder that can be resumed; nothing in it can run code.

model.safetensors   weights after the last epoch
best.safetensors    weights of the best epoch
training.pt         optimizer, schedule, scaler, moving average, loss weighting, history; `weights_only`
checkpoint.json     fingerprint, epoch, sizes; written last, so that a folder with it is complete
"""

import json
import os
import pickle
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from faceattr import __version__
from faceattr.data.formats.json_text import encode_json
from faceattr.errors import ConfigError, ModelError
from faceattr.models.weights import read_safetensors
from faceattr.training.loop.state import TrainingState

SCHEMA_VERSION = 1
INDEX_FILE = "checkpoint.json"
TRAINING_FILE = "training.pt"
_WEIGHTS = {"model": "model.safetensors", "best": "best.safetensors"}


def save_checkpoint(folder: Path, state: TrainingState) -> None:
    """Writes a state into a new or empty local folder, in one process.

    Raises:
        ConfigError: the folder holds a checkpoint already.
    """
    if (folder / INDEX_FILE).exists():
        raise ConfigError(f"{folder}: holds a checkpoint already, and nothing is overwritten; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in _WEIGHTS.items():
        tensors: Mapping[str, Tensor] = getattr(state, name)
        save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, folder / file)
    rest = {each.name: getattr(state, each.name) for each in fields(state) if each.name not in _WEIGHTS}
    torch.save(rest, folder / TRAINING_FILE)
    sizes = {file: (folder / file).stat().st_size for file in (*_WEIGHTS.values(), TRAINING_FILE)}
    index = {
        "schema_version": SCHEMA_VERSION,
        "faceattr": __version__,
        "fingerprint": state.fingerprint,
        "epoch": state.epoch,
        "size_bytes": sizes,
    }
    partial = folder / f".{INDEX_FILE}.partial"
    partial.write_text(encode_json(index, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, folder / INDEX_FILE)


def load_checkpoint(folder: Path, *, fingerprint: str | None = None) -> TrainingState:
    """Reads a state, on the CPU.

    Args:
        folder: written by `save_checkpoint`.
        fingerprint: what the checkpoint has to belong to; `fit` checks its own in any case.

    Raises:
        ModelError: the folder has no complete checkpoint, or one of another version.
        ConfigError: it belongs to another config.
    """
    path = folder / INDEX_FILE
    if not path.is_file():
        raise ModelError(f"{folder}: expected a checkpoint, found no {INDEX_FILE}; it was not written to its end")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        version, found, sizes = index["schema_version"], index["fingerprint"], index["size_bytes"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{path}: damaged: {type(error).__name__} {error}") from error
    if version != SCHEMA_VERSION:
        raise ModelError(f"{path}: schema_version is {version!r}, this faceattr {__version__} reads {SCHEMA_VERSION}")
    if fingerprint is not None and found != fingerprint:
        raise ConfigError(
            f"{folder}: belongs to another config ({found[:12]}, expected {fingerprint[:12]}); start a new run for "
            "other settings"
        )
    for file, size in sizes.items():
        actual = (folder / file).stat().st_size if (folder / file).is_file() else None
        if actual != size:
            raise ModelError(f"{folder / file}: expected {size} bytes, found {actual}; the checkpoint is damaged")
    try:
        rest = torch.load(folder / TRAINING_FILE, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise ModelError(f"{folder / TRAINING_FILE}: cannot be read: {error}") from error
    for name, file in _WEIGHTS.items():
        rest[name] = read_safetensors(folder / file)
    return TrainingState(**rest)
