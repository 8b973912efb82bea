"""Checkpoints in a run folder, of which the last epoch's and the best one's are kept.

    checkpoints/epoch-00007.*       files of `faceattr.training.loop.checkpoints`, `epoch-00007.checkpoint.json` last

The number is that of finished epochs. One without `checkpoint.json` does not count, so a crash at any point leaves the
checkpoint before it.
"""

import logging
import re
import tempfile
from pathlib import Path

from faceattr.data.stores.store import Store
from faceattr.errors import ModelError
from faceattr.training.loop.checkpoints import INDEX_FILE, load_checkpoint, save_checkpoint
from faceattr.training.loop.state import TrainingState

logger = logging.getLogger(__name__)
_FOLDER = "checkpoints/"
_KEY = re.compile(rf"{_FOLDER}epoch-(\d{{5,}})\.([^/]+)")


def store_checkpoint(store: Store, state: TrainingState) -> None:
    """Writes the state after an epoch, and removes those that are neither it nor the best epoch's."""
    with tempfile.TemporaryDirectory(prefix="faceattr-checkpoint-") as scratch:
        folder = Path(scratch) / "state"
        save_checkpoint(folder, state)
        files = sorted(path.name for path in folder.iterdir() if path.name != INDEX_FILE)
        for name in (*files, INDEX_FILE):
            store.put(_key(state.epoch, name), (folder / name).read_bytes())
    best = int(state.selection["best_epoch"]) + 1
    for epoch, names in _list_checkpoints(store).items():
        if epoch not in (state.epoch, best):
            # The index first: what is left of an interrupted removal does not count.
            for name in sorted(names, key=lambda each: each != INDEX_FILE):
                store.delete(_key(epoch, name))


def load_last_checkpoint(store: Store) -> TrainingState | None:
    """The last complete state, or None if there is none. A damaged one is passed over with a warning."""
    complete = {epoch: names for epoch, names in _list_checkpoints(store).items() if INDEX_FILE in names}
    for epoch in sorted(complete, reverse=True):
        with tempfile.TemporaryDirectory(prefix="faceattr-checkpoint-") as scratch:
            for name in complete[epoch]:
                (Path(scratch) / name).write_bytes(store.get(_key(epoch, name)))
            try:
                return load_checkpoint(Path(scratch))
            except ModelError as error:
                logger.warning("checkpoint epoch=%d is passed over: %s", epoch, error)
    return None


def _list_checkpoints(store: Store) -> dict[int, list[str]]:
    """Number of finished epochs -> names of the files that are there."""
    found: dict[int, list[str]] = {}
    for entry in store.list(_FOLDER):
        match = _KEY.fullmatch(entry.key)
        if match:
            found.setdefault(int(match[1]), []).append(match[2])
    return found


def _key(epoch: int, name: str) -> str:
    return f"{_FOLDER}epoch-{epoch:05d}.{name}"
