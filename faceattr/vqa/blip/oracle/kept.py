"""The plain path's answers, kept per machine: `FACEATTR_CACHE`/self-test/<hash of the request>.json.

Only the plain path's side of a self-test is kept. Every scorer is compared with it, so a file cannot vouch for a
scorer: at worst a wrong one makes a good scorer fail, and then the plain path is computed again.
"""

import contextlib
import fcntl
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from faceattr.data.formats.json_text import encode_json
from faceattr.vqa.blip.oracle.request import OracleRequest

_log = logging.getLogger(__name__)


class KeptScores:
    """The kept answer to one request."""

    def __init__(self, cache: Path, request: OracleRequest) -> None:
        """Args: this machine's folder for what can be computed again; the request."""
        self._request = request
        self._path = cache / "self-test" / f"{request.key}.json"

    def read(self) -> np.ndarray | None:
        """Returns float32 [2, total answers]; None if nothing is kept, or nothing usable."""
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            scores = np.asarray(content["scores"], dtype=np.float32)
            is_ours = content["request"] == _as_read(self._request)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            _log.warning("self_test_unreadable path=%s error=%s", self._path, error)
            return None
        if not is_ours or scores.shape != self._request.shape or not np.isfinite(scores).all():
            _log.warning("self_test_foreign path=%s", self._path)
            return None
        return scores

    def write(self, scores: np.ndarray) -> None:
        """Keeps float32 [2, total answers]. The file appears complete; a folder that takes none is reported."""
        text = encode_json({"request": _as_read(self._request), "scores": scores.tolist()})
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._path.parent) as folder:
                partial = Path(folder) / self._path.name
                partial.write_text(text, encoding="utf-8")
                os.replace(partial, self._path)
        except OSError as error:
            _log.warning("self_test_not_kept path=%s error=%s", self._path, error)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Waits until no other process of this machine computes the same answer. The lock ends with its process."""
        with contextlib.ExitStack() as stack:
            # Without a lock, or without a folder, several processes compute the same: slower, never wrong.
            with contextlib.suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(self._path.with_suffix(".lock").open("w"))
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _as_read(request: OracleRequest) -> dict[str, object]:
    """Returns the request as JSON reads it back."""
    content: dict[str, object] = json.loads(encode_json(asdict(request)))
    return content
