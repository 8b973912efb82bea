"""The files of every kind of run folder, once a stopped run was resumed and ended."""

from typing import Any

from tests.goldens.bucket import open_sample
from tests.goldens.describe import describe_store
from tests.goldens.resume import UNFINISHED


def collect_formats() -> dict[str, Any]:
    """Sample -> file -> what it holds. The samples were resumed."""
    return {name: describe_store(open_sample(name)) for name in UNFINISHED}
