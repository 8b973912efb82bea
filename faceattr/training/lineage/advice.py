"""What to do after a training has diverged, as the command that does it."""

import shlex
from itertools import count

from faceattr.config.train import TrainConfig
from faceattr.data.stores.open import open_store
from faceattr.data.stores.store import Store
from faceattr.training.loop.checkpoints import list_complete_checkpoints

# The usual step between two learning rates that are tried.
_LOWER = 1 / 3
_CLIP_NORM = 1.0


def advise_diverged(config: TrainConfig, output: Store) -> str:
    """Returns how to go on after a divergence: from the last good checkpoint, or from the start if there is none.

    Args:
        config: config of the training that diverged, without `auto`.
        output: its folder.
    """
    flags = [f"--optim.lr {config.fit.optim.lr * _LOWER:.2g}"]
    if config.freeze.head_lr is not None:
        flags.append(f"--freeze.head-lr {config.freeze.head_lr * _LOWER:.2g}")
    if config.optim.clip_norm is None:
        flags.append(f"--optim.clip-norm {_CLIP_NORM:g}")
    if config.optim.precision == "float16":
        flags.append("--optim.precision float32")
    if not list_complete_checkpoints(output):
        return (
            "No epoch was finished, so the folder takes other settings. Start again by the same command with "
            f"{' '.join(flags)}"
        )
    if config.storage.endpoint_url is not None:
        flags.append(f"--storage.endpoint-url {shlex.quote(config.storage.endpoint_url)}")
    fresh = _find_free_folder(config, output.uri)
    return (
        "Its last checkpoint stays. This command goes on from it, in another folder and otherwise with the same "
        f"settings:\n  faceattr train --resume-from {shlex.quote(output.uri)} --output {shlex.quote(fresh)} "
        f"{' '.join(flags)}"
    )


def _find_free_folder(config: TrainConfig, uri: str) -> str:
    names = (f"{uri.rstrip('/')}-{number}" for number in count(2))
    return next(name for name in names if not any(True for _ in open_store(name, config.storage).list()))
