"""Empty modules in place of packages that a bare machine with a GPU may lack, and that no section without Ray uses.

The package imports them all the same: an S3 client, learnt loss weights, gaps between groups.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

UNUSED = ("boto3", "botocore", "torchjd", "fairlearn")


class _Unused(ModuleType):
    """A module each of whose names is a class that cannot be used."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (Exception,), {"__init__": _refuse})


def _refuse(self: object, *args: object, **kwargs: object) -> None:
    raise ModuleNotFoundError(f"{type(self).__name__} is of a package that is not installed here")


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, missing: set[str]) -> None:
        self._missing = missing

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] not in self._missing:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _Unused(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def is_installed(name: str) -> bool:
    """Whether a package can be imported."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def stand_in() -> None:
    """Puts an empty module in the place of each unused package that is missing."""
    missing = {name for name in UNUSED if not is_installed(name)}
    if missing:
        sys.meta_path.insert(0, _Finder(missing))
