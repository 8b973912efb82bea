"""What an actor holds, as a recipe that a driver sends without importing torch."""

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from faceattr.jobs.cluster.code_version import CodeHere, check_same_code, describe_code


@dataclass(frozen=True)
class ActorRecipe:
    """How an actor makes its scorer or predictor: a function by name, and its arguments.

    By name, so that a driver can send it without importing torch and transformers, which takes longer than all else
    that it does before the first image.
    """

    function: str
    arguments: Mapping[str, Any]
    code: CodeHere = field(default_factory=describe_code)

    def __call__(self) -> Any:
        """Makes it in this process. Raises RunError if this process runs other code than the driver."""
        check_same_code(self.code)
        return pkgutil.resolve_name(self.function)(**self.arguments)
