#!/usr/bin/env python
"""Predict the attributes of a bucket of images: `faceattr predict bucket` as a script, for `ray job submit`.

Its steps, and the text of its help, are in faceattr/jobs/steps/predict.py.
"""

import sys
from collections.abc import Sequence

import faceattr.interrupt  # noqa: F401 - first, so that Ctrl-C ends the imports below in one line
from faceattr.cli import run_job
from faceattr.config import PredictConfig
from faceattr.jobs.steps import predict


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 1 the run failed, 2 the command is wrong, 130 stopped."""
    return run_job(PredictConfig, predict.predict_images, argv, predict.__doc__)


if __name__ == "__main__":
    sys.exit(main())
