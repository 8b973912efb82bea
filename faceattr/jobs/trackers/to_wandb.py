"""Weights & Biases, as its library is set up: WANDB_MODE, WANDB_PROJECT, WANDB_DIR, WANDB_API_KEY or `wandb login`."""

import os
from collections.abc import Mapping

import wandb

from faceattr.errors import ConfigError, RunError
from faceattr.jobs.trackers.tracked import TrackedRun

_WITHOUT_KEY = ("offline", "disabled", "dryrun")


class WandbTracker:
    """Logs into one run after the other; see `Tracker`."""

    def __init__(self) -> None:
        if os.environ.get("WANDB_MODE") not in _WITHOUT_KEY and wandb.api.api_key is None:
            raise ConfigError(
                "--loggers wandb: there is no key: run `wandb login`, set WANDB_API_KEY, or set WANDB_MODE=offline and "
                "call `wandb sync` later"
            )
        self._run: wandb.Run | None = None

    def begin(self, run: TrackedRun) -> None:
        """Opens a run. Raises RunError if the server does not take it."""
        try:
            self._run = self._open(run)
        except wandb.Error as error:
            raise RunError(f"--loggers wandb: the server took no run: {error}") from error

    def _open(self, run: TrackedRun) -> wandb.Run:
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "faceattr",
            id=run.run_id,
            name=run.name,
            group=run.group,
            config=dict(run.settings),
            resume="allow",
            reinit="create_new",
            # Neither the command, the folder, the host, the code nor the output of this process.
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                save_code=False,
                x_disable_meta=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
            ),
        )

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Logs metrics; a step that is there already is left out by the library."""
        assert self._run is not None, "begin comes first"
        self._run.log(dict(metrics), step=step)

    def end(self, *, failed: bool) -> None:
        """Closes the run."""
        assert self._run is not None, "begin comes first"
        self._run.finish(exit_code=int(failed))
        self._run = None
