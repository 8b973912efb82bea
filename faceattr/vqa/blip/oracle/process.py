"""The plain path in a process of its own, so that the actors import no transformers.

Standard input is a pickled `Task`, standard output a JSON object: `scores`, or `error` with a text for the user.
"""

import os
import pickle
import pkgutil
import sys

import numpy as np

from faceattr.data.formats.json_text import encode_json
from faceattr.errors import FaceattrError
from faceattr.vqa.blip.oracle.kept import KeptScores
from faceattr.vqa.blip.oracle.request import Task

# By name: a process that only waits for another's answer imports neither torch nor transformers.
_COMPUTE = "faceattr.vqa.blip.oracle.answer:compute_scores"


def answer(task: Task) -> np.ndarray:
    """Returns float32 [2, total answers]. Of several processes with the same request one computes, the others read.

    Raises:
        ModelError: the checkpoint cannot be loaded, or the tokenizers disagree.
    """
    kept = KeptScores(task.cache, task.request)
    with kept.lock():
        scores = None if task.is_fresh else kept.read()
        if scores is None:
            scores = np.asarray(pkgutil.resolve_name(_COMPUTE)(task))
            kept.write(scores)
    return scores


def main() -> None:
    """Answers one task."""
    with os.fdopen(os.dup(1), "w") as output:
        os.dup2(2, 1)  # whatever a library prints goes to standard error
        try:
            # The parent process' own bytes.
            reply: dict[str, object] = {"scores": answer(pickle.load(sys.stdin.buffer)).tolist()}  # noqa: S301
        except FaceattrError as error:
            reply = {"error": str(error)}
        output.write(encode_json(reply))


if __name__ == "__main__":
    main()
