#!/usr/bin/env python
"""Train one model for all attributes of some packed runs: `faceattr train` as a script, for `ray job submit`.

Its steps, and the text of its help, are in faceattr/jobs/steps/train.py.
"""

import sys
from collections.abc import Sequence

import faceattr.interrupt  # noqa: F401 - first, so that Ctrl-C ends the imports below in one line
from faceattr.cli import run_job
from faceattr.config.train import TrainConfig
from faceattr.jobs.steps import train
from faceattr.training.presets import PRESETS_FOLDER


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 1 the run failed, 2 the command is wrong, 130 stopped."""
    return run_job(TrainConfig, train.run_training, argv, train.__doc__, presets=PRESETS_FOLDER)


if __name__ == "__main__":
    sys.exit(main())
