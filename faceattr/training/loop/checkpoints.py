"""Checkpoints: a training as files from which it can be resumed; loading them cannot run code.

    model.safetensors   weights after the last epoch
    best.safetensors    weights of the best epoch
    training.pt         optimizer, schedule, scaler, moving average, loss weighting, history; read with `weights_only`
    checkpoint.json     fingerprint, epoch, sizes; written last, so that a checkpoint with it is complete

A run folder keeps two checkpoints, of the last epoch and of the best one; their files are named
`checkpoints/epoch-00007.model.safetensors` and so on, by the number of finished epochs. A checkpoint without
`checkpoint.json` is ignored, so after a crash at any point the previous checkpoint is used.
"""

import json
import logging
import os
import pickle
import re
import tempfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from faceattr.data.formats.json_files import decode_object
from faceattr.data.formats.json_text import encode_json
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.store import MissingObjectError, Store
from faceattr.errors import ConfigError, ModelError
from faceattr.models.weights import read_safetensors
from faceattr.training.loop.state import TrainingState
from faceattr.version import __version__

CHECKPOINT_SCHEMA_VERSION = 1
CHECKPOINT_FILE = "checkpoint.json"
TRAINING_FILE = "training.pt"
_WEIGHTS = {"model": "model.safetensors", "best": "best.safetensors"}


def save_checkpoint(folder: Path, state: TrainingState) -> None:
    """Writes a state into a new or empty local folder.

    Raises:
        ConfigError: the folder already contains a checkpoint.
    """
    if (folder / CHECKPOINT_FILE).exists():
        raise ConfigError(f"{folder}: holds a checkpoint already, and nothing is overwritten; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in _WEIGHTS.items():
        tensors: Mapping[str, Tensor] = getattr(state, name)
        save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, folder / file)
    rest = {each.name: getattr(state, each.name) for each in fields(state) if each.name not in _WEIGHTS}
    torch.save(rest, folder / TRAINING_FILE)
    sizes = {file: (folder / file).stat().st_size for file in (*_WEIGHTS.values(), TRAINING_FILE)}
    index = {
        "schema_version": CHECKPOINT_SCHEMA_VERSION,
        "faceattr": __version__,
        "fingerprint": state.fingerprint,
        "epoch": state.epoch,
        "size_bytes": sizes,
    }
    partial = folder / f".{CHECKPOINT_FILE}.partial"
    partial.write_text(encode_json(index, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, folder / CHECKPOINT_FILE)


def load_checkpoint(folder: Path, *, fingerprint: str | None = None) -> TrainingState:
    """Reads a state onto the CPU.

    Args:
        folder: folder written by `save_checkpoint`.
        fingerprint: fingerprint that the checkpoint must have; `fit` always checks its own.

    Raises:
        ModelError: the folder contains no complete checkpoint, or one with another schema version.
        ConfigError: the checkpoint belongs to another config.
    """
    path = folder / CHECKPOINT_FILE
    if not path.is_file():
        raise ModelError(f"{folder}: expected a checkpoint, found no {CHECKPOINT_FILE}; it was not written to its end")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        version, found, sizes = index["schema_version"], index["fingerprint"], index["size_bytes"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{path}: damaged: {type(error).__name__} {error}") from error
    if version != CHECKPOINT_SCHEMA_VERSION:
        raise ModelError(
            f"{path}: schema_version is {version!r}, this faceattr {__version__} reads {CHECKPOINT_SCHEMA_VERSION}"
        )
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


logger = logging.getLogger(__name__)
_FOLDER = "checkpoints/"
_KEY = re.compile(rf"{_FOLDER}epoch-(\d{{5,}})\.([^/]+)")


def store_checkpoint(store: Store, state: TrainingState) -> None:
    """Writes the state after an epoch, and removes the checkpoints of all other epochs but the best."""
    with tempfile.TemporaryDirectory(prefix="faceattr-checkpoint-") as scratch:
        folder = Path(scratch) / "state"
        save_checkpoint(folder, state)
        files = sorted(path.name for path in folder.iterdir() if path.name != CHECKPOINT_FILE)
        for name in (*files, CHECKPOINT_FILE):
            store.put(_key(state.epoch, name), (folder / name).read_bytes())
    best = int(state.selection["best_epoch"]) + 1
    for epoch, names in _list_checkpoints(store).items():
        if epoch not in (state.epoch, best):
            # The index first: the remains of an interrupted removal are then ignored.
            for name in sorted(names, key=lambda each: each != CHECKPOINT_FILE):
                store.delete(_key(epoch, name))


def load_last_checkpoint(store: Store) -> TrainingState | None:
    """Returns the last complete state, or None; a damaged checkpoint is skipped with a warning."""
    complete = {epoch: names for epoch, names in _list_checkpoints(store).items() if CHECKPOINT_FILE in names}
    for epoch in sorted(complete, reverse=True):
        with tempfile.TemporaryDirectory(prefix="faceattr-checkpoint-") as scratch:
            for name in complete[epoch]:
                (Path(scratch) / name).write_bytes(store.get(_key(epoch, name)))
            try:
                return load_checkpoint(Path(scratch))
            except ModelError as error:
                logger.warning("checkpoint epoch=%d is skipped: %s", epoch, error)
    return None


def load_stored_checkpoint(store: Store, epoch: int) -> TrainingState:
    """Returns the state after a number of finished epochs.

    Raises:
        ModelError: it is missing or damaged, or has a weight that is not finite.
    """
    where = join_uri(store.uri, _key(epoch, CHECKPOINT_FILE))
    with tempfile.TemporaryDirectory(prefix="faceattr-checkpoint-") as scratch:
        for name in (CHECKPOINT_FILE, TRAINING_FILE, *_WEIGHTS.values()):
            try:
                (Path(scratch) / name).write_bytes(store.get(_key(epoch, name)))
            except MissingObjectError as error:
                raise ModelError(f"{where}: the checkpoint is not there any more") from error
        state = load_checkpoint(Path(scratch))
    for name, tensor in state.model.items():
        if not bool(tensor.isfinite().all()):
            raise ModelError(f"{where}: the weight {name!r} is not finite: the training had diverged already")
    return state


def list_complete_checkpoints(store: Store) -> dict[int, str]:
    """Returns number of finished epochs -> fingerprint of the checkpoints whose files have their sizes."""
    sizes = {entry.key: entry.num_bytes for entry in store.list(_FOLDER)}
    found = {}
    for epoch, names in sorted(_list_checkpoints(store).items()):
        if CHECKPOINT_FILE not in names:
            continue
        index = decode_object(
            store.get(_key(epoch, CHECKPOINT_FILE)), join_uri(store.uri, _key(epoch, CHECKPOINT_FILE))
        )
        if all(sizes.get(_key(epoch, name)) == size for name, size in index.get("size_bytes", {"": 0}).items()):
            found[epoch] = str(index.get("fingerprint"))
    return found


def _list_checkpoints(store: Store) -> dict[int, list[str]]:
    """Returns number of finished epochs -> names of the existing files."""
    found: dict[int, list[str]] = {}
    for entry in store.list(_FOLDER):
        match = _KEY.fullmatch(entry.key)
        if match:
            found.setdefault(int(match[1]), []).append(match[2])
    return found


def _key(epoch: int, name: str) -> str:
    return f"{_FOLDER}epoch-{epoch:05d}.{name}"
