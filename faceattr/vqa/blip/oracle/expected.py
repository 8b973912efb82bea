"""The plain path's scores for a self-test: read if they are kept, else computed by a process meanwhile."""

import json
import os
import pickle
import subprocess
import sys
import tempfile
from dataclasses import replace

import numpy as np

from faceattr.errors import ModelError
from faceattr.vqa.blip.oracle.kept import KeptScores
from faceattr.vqa.blip.oracle.request import Task

_PROCESS = "faceattr.vqa.blip.oracle.process"
# Characters of a failed process' last words that are shown.
_SHOWN_CHARS = 2000


class OracleScores:
    """The answer to one task; see `faceattr.vqa.proven.Expected`."""

    def __init__(self, task: Task) -> None:
        """Reads the kept answer, or starts a process that computes it."""
        self._task = task
        kept = KeptScores(task.cache, task.request).read()
        self._scores: np.ndarray | _Process = _Process(task) if kept is None else kept

    def wait(self) -> np.ndarray:
        """See `Expected`. Called once."""
        return self._scores.wait() if isinstance(self._scores, _Process) else self._scores

    def compute(self) -> np.ndarray:
        """See `Expected`."""
        return _Process(replace(self._task, is_fresh=True)).wait()


class _Process:
    """A running `faceattr.vqa.blip.oracle.process`."""

    def __init__(self, task: Task) -> None:
        self._folder = task.folder
        # From a file, so that nobody waits until the process has started and reads.
        with tempfile.TemporaryFile() as file:
            pickle.dump(task, file)
            file.seek(0)
            self._process = subprocess.Popen(
                [sys.executable, "-m", _PROCESS],
                stdin=file,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # The modules, wherever this process has them from, and none of this process' GPU.
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "CUDA_VISIBLE_DEVICES": ""},
            )

    def wait(self) -> np.ndarray:
        output, errors = self._process.communicate()
        if self._process.returncode != 0:
            raise ModelError(
                f"{self._folder}: self-test: the plain path ended with exit status {self._process.returncode}, so the "
                "packed engine cannot be compared with it. Run with `--engine hf`. The process said: "
                f"{errors.decode(errors='replace')[-_SHOWN_CHARS:]}"
            )
        reply = json.loads(output)
        if "error" in reply:
            raise ModelError(reply["error"])
        return np.asarray(reply["scores"], dtype=np.float32)
