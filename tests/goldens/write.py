"""Writes what the tests expect: `python -m tests.goldens.write [NAME ...]`. See the package for when that is right."""

import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray

from faceattr.demo.store import serve_s3
from tests.conftest import environment, pytest_unconfigure
from tests.goldens.compare import EXPECTED
from tests.goldens.fingerprints import collect_fingerprints
from tests.goldens.flags import collect_flags
from tests.goldens.formats import collect_formats
from tests.goldens.losses import collect_losses
from tests.goldens.resume import place_all, resume_all
from tests.goldens.scores import collect_scores


@contextlib.contextmanager
def cluster() -> Iterator[None]:
    """The S3 server and the Ray session that the tests have."""
    with tempfile.TemporaryDirectory() as scratch, serve_s3(Path(scratch)) as s3, environment(s3.environment):
        ray.init(address="local", num_cpus=2, num_gpus=2, include_dashboard=False, object_store_memory=200 * 2**20)
        try:
            yield
        finally:
            ray.shutdown()


def main(names: list[str]) -> None:
    """Writes the files of these names, by default all."""
    found: dict[str, Any] = {"flags": collect_flags, "losses": collect_losses, "scores": collect_scores}
    wanted = names or [*found, "fingerprints", "formats"]
    for name in set(wanted) & set(found):
        _write(name, found[name]())
    if {"fingerprints", "formats"} & set(wanted):
        with cluster():
            place_all()
            if "fingerprints" in wanted:
                _write("fingerprints", collect_fingerprints())
            if "formats" in wanted:
                resume_all()
                _write("formats", collect_formats())
    pytest_unconfigure()


def _write(name: str, value: Any) -> None:
    EXPECTED.mkdir(exist_ok=True)
    (EXPECTED / f"{name}.json").write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
