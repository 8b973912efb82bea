"""The files of every kind of run folder, once a stopped run was resumed and ended."""

from typing import Any

from tests.goldens.bucket import SAMPLES, open_sample
from tests.goldens.describe import describe_store
from tests.goldens.resume import UNFINISHED


def collect_formats() -> dict[str, Any]:
    """Sample -> file -> what it holds. The samples were resumed.

    Random weights differ in their last bits between processors, so that a search goes on with a feature cache of its
    own on another one: such a cache is left out.
    """
    described = {name: describe_store(open_sample(name)) for name in UNFINISHED}
    return {
        name: {
            key: content
            for key, content in files.items()
            if not key.startswith("features/") or (SAMPLES / name / key).exists()
        }
        for name, files in described.items()
    }
