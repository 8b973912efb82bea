"""How to build what an actor holds, in a form that a driver can send without importing torch."""

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from faceattr.jobs.cluster.code_version import CodeHere, check_same_code, describe_code
from faceattr.jobs.cluster.milestones import reach

ACTOR = "actor"
READY = "model loaded"


@dataclass(frozen=True)
class ActorRecipe:
    """How an actor builds its scorer or predictor: the name of a function, and its arguments.

    A name, so that a driver can send it without importing torch and transformers: that import takes longer than
    everything else the driver does before the first image.
    """

    function: str
    arguments: Mapping[str, Any]
    code: CodeHere = field(default_factory=describe_code)

    def __call__(self) -> Any:
        """Builds it in this process. Raises RunError if this process runs other code than the driver."""
        check_same_code(self.code)
        build = pkgutil.resolve_name(self.function)
        reach(ACTOR, "imports done")
        built = build(**self.arguments)
        reach(ACTOR, READY)
        return built
