#!/usr/bin/env python
"""Evaluate a trained model: `faceattr evaluate` as a script, for `ray job submit`.

Its steps, and the text of its help, are in faceattr/jobs/steps/evaluate.py.
"""

import sys
from collections.abc import Sequence

import faceattr.interrupt  # noqa: F401 - first, so that Ctrl-C ends the imports below in one line
from faceattr.cli import run_job
from faceattr.config import EvalConfig
from faceattr.jobs.steps import evaluate


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 1 the run failed, 2 the command is wrong, 130 stopped."""
    return run_job(EvalConfig, evaluate.evaluate_model, argv, evaluate.__doc__)


if __name__ == "__main__":
    sys.exit(main())
